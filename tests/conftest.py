import os
import sys
from pathlib import Path

# Two workers with one thread each beat one with two, and results must not depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "reference"))

import torch

torch.set_num_threads(1)
