"""Prefect flows, site settings and the ``ssx`` command: where the pieces are joined.

``process.py`` is read first. Prefect is imported only after ``prefect_environment.prepare``.
"""
