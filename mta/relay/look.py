"""A message read for its survey, before anything of it is sent: only where a server may not take it as it is."""

from __future__ import annotations

from mta.envelope import Job
from mta.smtp.convert.survey import Findings, Survey

__all__ = ["look"]


async def look(job: Job) -> Findings:
    """At the whole message, piece by piece.  Raises what the reader of its body raises; the reader is closed in any case."""
    survey = Survey()
    survey.look(job.message.prefix)
    if job.body is not None:
        survey.look(job.body)
        return survey.findings()
    reader = job.open_body()
    try:
        while piece := await reader.read():
            survey.look(piece)
    finally:
        reader.close()
    return survey.findings()
