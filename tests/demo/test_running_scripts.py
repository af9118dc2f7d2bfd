"""How the demo starts scripts: as true processes, which the other tests of this folder do not wait for."""

import pytest

from demo import scripts


def test_a_script_runs_in_its_environment_and_its_end_with_an_error_is_said(tmp_path):
    log, script = tmp_path / "log.txt", "data_processing/augment_labels.py"
    dictionary = tmp_path / "dictionary.txt"
    dictionary.write_text("category_index\tWordNet_ID\tparent\tname\n0\tn00000001\t-1\tanimal\n1\tn00000002\t0\tdog\n")
    (tmp_path / "list.txt").write_text("a.jpg\t1:0.5\n")
    flags = dict(image_list=tmp_path / "list.txt", dictionary=dictionary, output=tmp_path / "closed.txt")
    scripts.run_script(script, log, {"PYTHONPROFILEIMPORTTIME": "1"}, **flags)
    assert (tmp_path / "closed.txt").read_text() == "a.jpg\t0:0.5\t1:0.5\n"
    said = log.read_text()
    assert said.startswith(f"\n$ python {script} --image_list={tmp_path}/list.txt --") and "import time" in said
    with pytest.raises(ValueError, match=r"augment_labels.py ended with status 1; .* at the end of .*log\.txt"):
        scripts.run_script(script, log, **flags | dict(image_list=tmp_path / "none.txt"))
    assert log.read_text().startswith(said) and "none.txt" in log.read_text().splitlines()[-1]


def test_what_mpirun_lacks_is_said_before_hours_of_work(tmp_path, monkeypatch):
    names = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    monkeypatch.setattr(scripts.os, "geteuid", lambda: 0)
    for name in names:
        monkeypatch.setenv(name, "1")
    scripts.check_mpirun()
    monkeypatch.delenv(names[1])
    with pytest.raises(ValueError, match=f"as root only with {names[0]}=1 {names[1]}=1 in the environment"):
        scripts.check_mpirun()
    monkeypatch.setattr(scripts.os, "geteuid", lambda: 1000)
    scripts.check_mpirun()
    monkeypatch.setattr(scripts, "MPIRUN", [tmp_path / "mpirun"])
    with pytest.raises(ValueError, match="there is no .*mpirun, which starts several processes; `make horovod`"):
        scripts.check_mpirun()
