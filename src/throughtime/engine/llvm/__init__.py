"""The fused CPU engine: any declared cell as machine code, built in memory by LLVM."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from throughtime.engine.job import Job

__all__ = ["text_of"]


def text_of(job: "Job") -> str:
    """What a job's kernels are compiled from.

    There are three: through a sequence with and without saving for a backward pass, and back.

    Args:
        job: The cell and its sizes; the text is the same for all sizes.

    Returns:
        The kernels in LLVM's language, for float32 and this machine's vectors.
    """
    import torch

    from throughtime.engine.llvm.lowering import Variant
    from throughtime.engine.llvm.program import program_of

    program = program_of(job, Variant(), torch.float32)
    return "\n".join(program.kernel(kind).text for kind in ("infer", "save", "backward"))
