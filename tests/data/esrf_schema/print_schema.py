"""Print the CREATE TABLE statements of ispyb-models 1.1.0 for our tables and all that these refer to."""

# pyright: reportMissingImports=false
# ruff: noqa: T201

from ispyb import models
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateIndex, CreateTable

OURS = """Proposal BLSession Person Protein Crystal BLSample DataCollectionGroup DataCollection Detector
SSXDataCollection EventChain EventType Event Component ComponentType SampleComposition AutoProcProgram
AutoProcProgramAttachment AutoProc AutoProcScaling AutoProcScalingStatistics AutoProcScaling_has_Int
AutoProcIntegration""".split()
dialect = make_url("mariadb+pymysql://").get_dialect()()  # quotes MariaDB's reserved words
tables = models.Base.metadata.tables
needed, todo = set(), list(OURS)
while todo:
    name = todo.pop()
    if name not in needed:
        needed.add(name)
        todo += [f.column.table.name for f in tables[name].foreign_keys]
for t in models.Base.metadata.sorted_tables:
    if t.name in needed:
        for c in t.columns:
            c.comment = None
        t.comment = None
        statement = str(CreateTable(t).compile(dialect=dialect)).strip()
        print(statement.replace("\t", "  ").replace(", \n", ",\n") + ";\n")
        for i in sorted(t.indexes, key=lambda i: i.name):
            if i.unique:
                print(str(CreateIndex(i).compile(dialect=dialect)) + ";\n")
