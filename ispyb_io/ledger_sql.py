"""The ledger as SQL, for the owner of an ISPyB database who makes our tables there."""

import re

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.schema import CreateTable

from ispyb_io.ledger_tables import LedgerBase, first_history
from ispyb_io.protocol import RejectedError

RIGHTS = "SELECT, INSERT, UPDATE"
TABLE_OPTIONS = "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
"""Both servers have this collation; each has a default that the other does not know."""
ACCOUNT = re.compile(r"(?P<user>[\w.-]{1,80})@(?P<host>[\w.%:/-]{1,255})")


def ledger_sql(account: str | None = None, *, dialect: str = "mysql") -> str:
    """Return statements that make the ledger's tables, where they are not yet, in MariaDB 10.3 or MySQL 8.

    They also bring a ledger of a former version up to date, and may be run again.

    Parameters
    ----------
    account
        ``user@host`` that gets the rights the ledger needs.
    dialect
        ``mysql``, for both servers, or ``sqlite``.

    Raises
    ------
    RejectedError
        The account is not written so.

    Examples
    --------
    >>> print(ledger_sql("ssx@%").splitlines()[-1])
    GRANT SELECT, INSERT, UPDATE ON `SsxChunkWork` TO 'ssx'@'%';
    """
    tables = LedgerBase.metadata.sorted_tables
    known: Dialect = {"mysql": mysql.dialect, "sqlite": sqlite.dialect}[dialect]()
    statements = [_create(table, known) for table in tables]
    statements.append(str(first_history().compile(dialect=known)).strip())
    if account is not None:
        statements += [f"GRANT {RIGHTS} ON `{table.name}` TO {quoted_account(account)}" for table in tables]
    return "".join(f"{statement};\n" for statement in statements)


def quoted_account(account: str) -> str:
    """Account as SQL has it.

    Examples
    --------
    >>> quoted_account("ssx@10.0.%")
    "'ssx'@'10.0.%'"
    """
    found = ACCOUNT.fullmatch(account)
    if found is None:
        raise RejectedError(f"the account {account!r} is not understood; expected user@host, e.g. ssx@%")
    return f"'{found['user']}'@'{found['host']}'"


def _create(table: Table, dialect: Dialect) -> str:
    """CREATE TABLE with its indexes inside: MySQL knows no CREATE INDEX IF NOT EXISTS."""
    created = str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)).strip()
    if dialect.name == "sqlite":
        return created
    body = created.removesuffix(")").rstrip()
    keys = sorted(
        f"KEY `{index.name}` ({', '.join(f'`{column.name}`' for column in index.columns)})"
        for index in table.indexes
    )
    return ", \n\t".join([body, *keys]) + f"\n) {TABLE_OPTIONS}"
