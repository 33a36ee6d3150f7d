"""What is mounted below a directory, by mountinfo of proc(5)."""


def below(directory: str) -> list[str]:
    """The mount points at a directory and below, each as often as it is mounted on, the last
    mounted last."""
    with open("/proc/self/mountinfo") as mounts:
        points = [line.split(" ")[4] for line in mounts]
    plain = [p.encode().decode("unicode_escape") if "\\" in p else p for p in points]
    return [p for p in plain if p == directory or p.startswith(f"{directory}/")]
