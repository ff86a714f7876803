"""A py-ispyb to test against, on an embedded ISPyB: its paths, bodies, status codes and defects.

What the real one does, also where that is odd, is written down in docs/reference/ispyb-rest.md.
"""

import asyncio
import datetime
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from ispyb_io import result_tables as results
from ispyb_io import tables as t

from .faults import FaultyApp
from .served import (
    Pyispyb,
    chains,
    columns,
    group_events,
    may_see,
    protein_of,
    read_stats,
    sample_content,
    session_name,
)

ROOT = "/ispyb/api/v1"
IdList = Annotated[str, Query(pattern=r"^\d+(,\d+)*$")]


class Login(BaseModel):
    plugin: str | None = None
    login: str | None = None
    password: str | None = None
    token: str | None = None


class CollectionBody(BaseModel):
    """What is not named here, imageDirectory and fileTemplate among it, is dropped in silence."""

    dataCollectionGroupId: int  # noqa: N815
    startTime: datetime.datetime  # noqa: N815
    numberOfImages: int | None = None  # noqa: N815
    imagePrefix: str | None = None  # noqa: N815
    event_chains: list[dict[str, Any]] = []


class ProcessingBody(BaseModel):
    processingCommandLine: str | None = None  # noqa: N815
    processingPrograms: str | None = None  # noqa: N815
    processingMessage: str | None = None  # noqa: N815
    processingStartTime: datetime.datetime | None = None  # noqa: N815
    processingEndTime: datetime.datetime | None = None  # noqa: N815
    processingEnvironment: str | None = None  # noqa: N815
    results: list[str]


def page(rows: list[Any], skip: int, limit: int) -> dict[str, Any]:
    return {"total": len(rows), "results": rows[skip : skip + limit], "skip": skip, "limit": limit}


def make_app(server: Pyispyb) -> FaultyApp:
    """The application, with the faults of the server's list."""
    app = FastAPI()
    app.include_router(auth_routes(server), prefix=ROOT)
    guarded = [Depends(bearer(server))]
    app.include_router(reading_routes(server), prefix=ROOT, dependencies=guarded)
    if server.branch != "master":
        app.include_router(ssx_routes(server), prefix=ROOT, dependencies=guarded)

    @app.middleware("http")
    async def add_slash(request: Request, call_next: Any) -> Any:
        if not server.slashes:
            return await call_next(request)
        if request.url.path.endswith("/events"):
            return RedirectResponse(request.url.replace(path=request.url.path + "/"), 307)
        request.scope["path"] = request.scope["path"].rstrip("/")
        return await call_next(request)

    return FaultyApp(app, server.faults, server.asked)


def bearer(server: Pyispyb) -> Any:
    def check(request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise HTTPException(401, "No token provided.")
        if token not in server.tokens:
            raise HTTPException(401, "Token expired. Please log in again")

    return check


def auth_routes(server: Pyispyb) -> APIRouter:
    router = APIRouter(prefix="/auth")

    @router.get("/config")
    def config() -> dict[str, Any]:
        return {"plugins": [{"name": name, "config": {}} for name in server.plugins]}

    @router.post("/login", status_code=201)
    def login(details: Login) -> dict[str, Any]:
        server.logins.append(details.model_dump())
        good = details.password == "p@ss" or details.token == "keycloak-token"  # noqa: S105
        if details.plugin not in server.plugins or not good:
            raise HTTPException(401, "Could not verify")
        token = uuid.uuid4().hex
        server.tokens.add(token)
        return {"login": details.login or "abcd", "token": token, "permissions": server.permissions}

    return router


def reading_routes(server: Pyispyb) -> APIRouter:
    router = APIRouter()

    @router.get("/events")
    def events(
        skip: int = 0,
        limit: int = 25,
        proposal: str | None = None,
        beamLineName: str | None = None,
        dataCollectionId: int | None = None,
        dataCollectionGroupId: int | None = None,
        blSampleId: int | None = None,
        proteinId: int | None = None,
        eventType: str | None = None,
    ) -> dict[str, Any]:
        found = [
            event
            for group in server.rows(t.DataCollectionGroup)
            if eventType in (None, group.experimentType)
            and blSampleId in (None, group.blSampleId)
            and proteinId in (None, protein_of(server, group.blSampleId))
            and dataCollectionGroupId in (None, group.dataCollectionGroupId)
            for event in group_events(server, group, dataCollectionId, one_each=bool(dataCollectionGroupId))
            if beamLineName in (None, event.pop("beamline")) and proposal in (None, event["proposal"])
        ]
        order = "endTime" if server.by_end else "startTime"
        found.sort(key=lambda event: (event[order] is not None, event[order]), reverse=True)
        return page(found, skip, limit)

    @router.get("/sessions/{name}")
    def session(name: str) -> dict[str, Any]:
        for row in server.rows(t.BLSession):
            if session_name(server, row) == name and may_see(server, row):
                return columns(row) | {"session": name, "_metadata": {"active": False}}
        raise HTTPException(404, "Session not found")

    @router.get("/samples/{sample_id}")
    def sample(sample_id: int) -> dict[str, Any]:
        return sample_content(server, sample_id)

    if server.branch == "192":

        @router.get("/eventchain")
        def chain(dataCollectionId: int) -> list[dict[str, Any]]:
            return chains(server, dataCollectionId)

    elif server.branch == "ssx-webservice":

        @router.get("/eventchains")
        def paged_chains(dataCollectionId: int, skip: int = 0, limit: int = 25) -> dict[str, Any]:
            return page(chains(server, dataCollectionId), skip, limit)

    return router


def ssx_routes(server: Pyispyb) -> APIRouter:
    router = APIRouter()

    @router.get("/ssx/datacollection/processing/stats")
    def stats(dataCollectionIds: IdList) -> list[dict[str, Any]]:
        """One row for each attachment of the name; a file that is missing or incomplete gives none."""
        rows = []
        for id_ in map(int, dataCollectionIds.split(",")):
            for program in server.rows(results.AutoProcProgram, dataCollectionId=id_):
                key = {"autoProcProgramId": program.autoProcProgramId, "fileName": "ssx_stats.json"}
                for attachment in server.rows(results.AutoProcProgramAttachment, **key):
                    content = read_stats(server, attachment.filePath, attachment.fileName)
                    rows += [content | {"dataCollectionId": id_}] if content else []
        return rows

    def permitted() -> None:
        if "ssx_sync" not in server.permissions:
            raise HTTPException(403, "You do not have permission: `ssx_sync`")

    @router.post("/webservices/ssx/datacollection", dependencies=[Depends(permitted)])
    def add_collection(body: CollectionBody) -> int:
        values = body.model_dump(exclude={"event_chains"})
        return server.add(t.DataCollection, **values)

    @router.post(
        "/webservices/ssx/datacollection/{data_collection_id}/processing", dependencies=[Depends(permitted)]
    )
    def add_processing(data_collection_id: int, body: ProcessingBody) -> int:
        """Always a new row, always a success."""
        values = body.model_dump(exclude={"results"})
        values |= {"dataCollectionId": data_collection_id, "processingStatus": "SUCCESS"}
        program_id = server.add(results.AutoProcProgram, **values)
        for path in body.results:
            folder, name = os.path.split(path)
            key = {"autoProcProgramId": program_id, "fileType": "Result"}
            server.add(results.AutoProcProgramAttachment, filePath=folder, fileName=name, **key)
        return program_id

    return router


@contextmanager
def serving(server: Pyispyb) -> Iterator[str]:
    """Serve on a port of this machine; yields the address of the API."""
    config = uvicorn.Config(
        make_app(server), port=0, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(runner.serve()), daemon=True)
    thread.start()
    while not runner.started:
        time.sleep(0.002)
    port = runner.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}{ROOT}"
    finally:
        runner.should_exit = True
        thread.join(timeout=5)
