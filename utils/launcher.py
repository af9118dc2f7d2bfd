"""Which of how many processes this one is, as the launchers say: mpirun, horovodrun and Slurm."""

# Environment variables of the rank and of the number of processes. (Slurm sets SLURM_NTASKS for a job's script, too,
# which is one process; the number in a step is set by srun alone.)
TOGETHER = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("HOROVOD_RANK", "HOROVOD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
# The jobs of an array, which know nothing of each other.
ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")


def rank_and_size(environment, arrays=False):
    """Returns which process this is, from 0, and how many there are.

    Args:
      environment: dictionary of the environment's variables.
      arrays: whether the jobs of a Slurm array count as processes, too: for work that need not talk.

    Raises ValueError if the numbers do not fit, as those of an array like 1,3,7 do not.
    """
    several = [pair for pair in TOGETHER if all(name in environment for name in pair) and int(environment[pair[1]]) > 1]
    if arrays and all(name in environment for name in ARRAY):
        several.append(ARRAY)
    if not several:
        return 0, 1
    names = several[0]
    rank, size = (int(environment[name]) for name in names)
    if names == ARRAY:
        rank -= int(environment.get("SLURM_ARRAY_TASK_MIN", 0))
        rank /= int(environment.get("SLURM_ARRAY_TASK_STEP", 1))
    if rank != int(rank) or not 0 <= rank < size:
        variables = ", ".join(f"{name}={environment[name]}" for name in names)
        raise ValueError(f"{variables}: no process of a whole set; start an array as --array=0-{size - 1}")
    return int(rank), size
