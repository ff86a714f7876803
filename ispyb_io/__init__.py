"""What processing asks of ISPyB, tells it, and keeps in its own ledger.

Start reading at ``protocol.py``: what a client does and the errors it promises. ``records.py`` is
what is read, ``results.py`` what is written, ``orm_client.py`` does both through SQLAlchemy,
``rest_client.py`` what it can of both through py-ispyb's REST API. ``ledger.py`` keeps, under unique
keys, what ISPyB has no table for. ``outbox.py`` keeps results until ISPyB has them.
"""
