"""Progress in a log: lines on standard error, few of them, and only rank 0's."""

from workbench.workloads import progress


def test_lines_where_there_is_no_terminal(capfd, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("FORCE_COLOR", "1")  # as under a notebook
    with progress.ProgressLine() as line, progress.ProgressLine(quiet=True) as silent:
        for second in range(1, 13):
            now[0] = float(second)
            for each in (line, silent):
                each.update(f"step {second}", second / 12)
    out, err = capfd.readouterr()
    assert out == "" and err == " 42 %  step 5\n 83 %  step 10\n100 %  step 12\n"
