"""``make manifests``: builds every overlay, holds every object against its schema, and checks the house's policies.

It stands beside what it checks, and not in the installed packages: only who has the repository changes manifests.
"""
