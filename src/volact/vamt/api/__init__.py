"""VAMT's HTTP API (V6): the routes, who is let in, answers that are kept, and work that goes on in the background.

`app` puts it together; each of `machines`, `keys`, `people`, `lists`, `discover`, `work` and `actions` has the routes of
its subject, which call what the commands call. `bodies` and `answers` are what is taken and given.
"""
