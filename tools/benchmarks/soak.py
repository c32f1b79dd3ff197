"""Train for long, and watch what should not grow: memory, open files, processes.

`python tools/benchmarks/soak.py CONFIG --iters 3000 [--cfg-options ...]`

Runs tools/train.py as a session of its own and reads the system's counts of all its processes at every
line of the log (`/proc`, so Linux only). Memory is the proportional share (PSS), in which pages that
processes share count once. From the first evaluation on, the first tenth of the lines is compared with
the last; exits with 1 if memory grew by more than --tolerance, or files or processes are left over.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import ProgressBar

import mmdla  # noqa: F401
from mmdla.engine.config import add_cfg_options

TRAIN = Path(__file__).resolve().parents[1] / 'train.py'
PROC = Path('/proc')
MIB = 2**10  # of the kilobytes that /proc counts in


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of a config with a training loop by iterations')
    parser.add_argument('--iters', type=int, default=3000, help='iterations (3000)')
    parser.add_argument(
        '--interval', type=int, default=200, help='of evaluation and checkpoints, of which two are kept'
    )
    parser.add_argument('--tolerance', type=float, default=0.05, help='of memory, as a part (0.05)')
    parser.add_argument('--work-dir', help='where the run goes (a temporary folder)')
    parser.add_argument('--plot', help='picture of the counts over the iterations')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.iters < max(20, 2 * args.interval):
        parser.error(
            f'--iters {args.iters}: must be at least 20, and twice --interval ({args.interval}), for a '
            'first and a last tenth after the first evaluation'
        )
    return args


def processes(session: int) -> list[Path]:
    """The processes of a session, as folders of ``/proc``."""
    found = []
    for folder in PROC.glob('[0-9]*'):
        try:
            # The command's name may hold anything, brackets too.
            state, _, _, of = (folder / 'stat').read_text().rpartition(')')[2].split()[:4]
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        if int(of) == session and state != 'Z':
            found.append(folder)
    return found


def left_over(session: int, seconds: float = 10) -> list[Path]:
    """The processes of a session that has ended, but for those that still are about to."""
    end = time.monotonic() + seconds
    while (found := processes(session)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def counts(session: int) -> dict[str, float]:
    """Memory in MiB, open files and processes of a session."""
    memory = files = number = 0
    for folder in processes(session):
        try:
            rollup = (folder / 'smaps_rollup').read_text()
            files += len(list((folder / 'fd').iterdir()))
        except OSError:
            continue
        memory += int(re.search(r'^Pss:\s+(\d+)', rollup, re.MULTILINE)[1])
        number += 1
    return dict(memory=memory / MIB, files=files, processes=number)


def options(args: argparse.Namespace) -> list[str]:
    """The config's settings for the run, as arguments."""
    cfg = Config.fromfile(args.config)
    if 'max_iters' not in (cfg.get('train_cfg') or {}):
        raise SystemExit(f'{args.config}: train_cfg must have max_iters, of a loop by iterations')
    settings = {
        'train_cfg.max_iters': args.iters,
        'train_cfg.val_interval': args.interval,
        'default_hooks.checkpoint.interval': args.interval,
        'default_hooks.checkpoint.max_keep_ckpts': 2,
        'default_hooks.logger.interval': max(1, args.iters // 200),
        **(args.cfg_options or {}),
    }
    return [f'{key}={value}'.replace(' ', '') for key, value in settings.items()]


def watch(command: list[str], log: Path, iters: int) -> tuple[list[dict], int, int]:
    """Run a training; the counts at each line of its log, the exit status, and its session."""
    bar = ProgressBar(iters)
    seen = []
    with log.open('w') as out:
        run = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        for line in run.stdout:
            out.write(line)
            done = re.search(r'Iter\(train\) \[\s*(\d+)/', line)
            if done:
                seen.append(dict(iter=int(done[1]), **counts(run.pid)))
                bar.update(int(done[1]) - bar.completed)
        status = run.wait()
    bar.file.write('\n')
    return seen, status, run.pid


def tenths(seen: list[dict], name: str) -> tuple[float, float]:
    """Means of a count over the first tenth of the lines and over the last."""
    n = max(1, len(seen) // 10)
    values = [line[name] for line in seen]
    return statistics.fmean(values[:n]), statistics.fmean(values[-n:])


def plot(seen: list[dict], path: str) -> None:
    """Draw the counts over the iterations."""
    import matplotlib

    matplotlib.use('agg')
    from matplotlib import pyplot as plt

    names = dict(memory='memory (MiB)', files='open files', processes='processes')
    figure, axes = plt.subplots(1, 3, figsize=(12, 2.6), layout='constrained')
    for axis, (name, label) in zip(axes, names.items()):
        axis.plot([line['iter'] for line in seen], [line[name] for line in seen], color='#3b6ea5', lw=1)
        axis.set(xlabel='iteration', title=label)
        axis.set_ylim(0, 1.25 * max(line[name] for line in seen))
        axis.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=90)


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(args.work_dir or temporary)
        work.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, '-u', TRAIN, args.config, '--work-dir', work, '--cfg-options']
        log = work / 'soak.log'
        seen, status, session = watch([*map(str, command), *options(args)], log, args.iters)
        if status != 0 or not seen:
            tail = ''.join(log.read_text().splitlines(keepends=True)[-20:])
            raise SystemExit(f'{tail}\nThe training ended with {status}, after {len(seen)} lines.')
        left = left_over(session)
        shared = [p.name for p in Path('/dev/shm').glob(f'torch_{session}_*')]
        held = sorted(p.name for p in work.glob('*.pth*'))
    # The processes that load validation data start with the first evaluation.
    compared = [line for line in seen if line['iter'] > args.interval]
    if args.plot:
        os.makedirs(os.path.dirname(args.plot) or '.', exist_ok=True)
        plot(seen, args.plot)
    print(f'{"":10} {"first tenth":>12} {"last tenth":>12} {"largest":>10}')
    for name in ('memory', 'files', 'processes'):
        first, last = tenths(compared, name)
        print(f'{name:10} {first:12.1f} {last:12.1f} {max(line[name] for line in compared):10.1f}')
    print(f'checkpoints kept: {", ".join(held)}')
    print(f'left when it had ended: {len(left)} processes, {len(shared)} pieces of shared memory')
    first, last = tenths(compared, 'memory')
    wrong = [f'memory grew by {last / first - 1:.1%}'] if last > first * (1 + args.tolerance) else []
    first, last = tenths(compared, 'files')
    wrong += [f'{last - first:.1f} more files are open'] if last > first + 2 else []
    wrong += ['processes or shared memory are left over'] if left or shared else []
    if wrong:
        raise SystemExit('; '.join(wrong))


if __name__ == '__main__':
    main()
