"""The server: `/v1`, the pages, optuna-dashboard behind a door. The only home of FastAPI and uvicorn.

A request passes, in this order: `door` (odd paths are turned away, every answer gets its headers), the table in
`routes` (what there is, and the least role of each), `authentication` (who is asking, may they, did their browser mean
it), and then its handler. What is in no table is not there.
"""
