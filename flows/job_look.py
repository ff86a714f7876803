"""What became of a job of ISPyB at a look of the watcher."""

from dataclasses import dataclass
from typing import Self

from ispyb_io.asked import Answer
from ispyb_io.results import ResultStatus


@dataclass(frozen=True)
class JobLook:
    """A job and what there is to say of it."""

    job_id: int
    said: str
    has_failed: bool = False

    @classmethod
    def of(cls, job_id: int, answer: Answer | None) -> Self:
        """As it was answered; None: it waits."""
        if answer is None:
            return cls(job_id, "waits")
        has_failed = answer.status is ResultStatus.FAILED
        return cls(job_id, f"{'failed' if has_failed else 'done'}; {answer.message}", has_failed)

    @property
    def line(self) -> str:
        """For people."""
        return f"ISPyB job {self.job_id}: {self.said}"
