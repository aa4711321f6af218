"""Write golden.npz with the diffusers that is installed: python -m tests.diffusion.make_golden"""

from tests.diffusion import golden
from tests.diffusion.cases import CASES
from tests.diffusion.diffusers_runs import theirs

if __name__ == "__main__":
    golden.write({str(case): theirs(case) for case in CASES})
    print(f"{golden.PATH}: {len(CASES)} runs, {golden.PATH.stat().st_size // 1000} kB")
