"""The ledger as SQL, for the owner of an ISPyB database who makes our tables there."""

import re
from typing import Literal

from sqlalchemy import Table
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from ispyb_io.ledger_tables import LedgerBase
from ispyb_io.protocol import RejectedError

Server = Literal["mariadb", "mysql"]
RIGHTS = "SELECT, INSERT, UPDATE"
TABLE_OPTIONS = "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
"""Both servers have this collation; each has a default that the other does not know."""
ACCOUNT = re.compile(r"(?P<user>[\w.-]{1,80})@(?P<host>[\w.%:/-]{1,255})")


def ledger_sql(account: str | None = None) -> str:
    """Return statements that make the ledger's tables, where they are not yet, in MariaDB 10.3 or MySQL 8.

    Parameters
    ----------
    account
        ``user@host`` that gets the rights the ledger needs.

    Raises
    ------
    RejectedError
        The account is not written so.

    Examples
    --------
    >>> print(ledger_sql("ssx@%").splitlines()[-1])
    GRANT SELECT, INSERT, UPDATE ON `SsxChunk` TO 'ssx'@'%';
    """
    tables = LedgerBase.metadata.sorted_tables
    statements = [_create(table) for table in tables]
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


def _create(table: Table) -> str:
    """CREATE TABLE with its indexes inside: MySQL knows no CREATE INDEX IF NOT EXISTS."""
    created = CreateTable(table, if_not_exists=True).compile(dialect=mysql.dialect())
    body = str(created).strip().removesuffix(")").rstrip()
    keys = sorted(
        f"KEY `{index.name}` ({', '.join(f'`{column.name}`' for column in index.columns)})"
        for index in table.indexes
    )
    return ", \n\t".join([body, *keys]) + f"\n) {TABLE_OPTIONS}"
