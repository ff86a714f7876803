"""Make tables of a published ISPyB package in an empty database, and print their names.

Runs in a throw-away environment that has just the package and PyMySQL, since all of them own the
package name ``ispyb``:

    uv run --no-project --with ispyb-models==1.1.0 --with pymysql python create_all.py URL TABLE...

``TABLE...`` are those that we touch; made are these, as far as they are there, and all that they refer to.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# ruff: noqa: T201

import json
import sys

from sqlalchemy import create_engine

try:
    from ispyb.models import Base  # ESRF's and MAX IV's packages
except ImportError:
    from ispyb.sqlalchemy import Base  # Diamond's

url, *wanted = sys.argv[1:]
metadata = Base.metadata
for name in [name for name in metadata.tables if name.lower().startswith("v_")]:
    metadata.remove(metadata.tables[name])  # views, which the packages declare as tables

needed: set[str] = set()
waiting = [name for name in wanted if name in metadata.tables]
while waiting:
    name = waiting.pop()
    if name not in needed:
        needed.add(name)
        waiting += [key.column.table.name for key in metadata.tables[name].foreign_keys]
metadata.create_all(create_engine(url), tables=[metadata.tables[name] for name in needed])
print(json.dumps(sorted(needed)))
