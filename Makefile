# make demo: everything once, in small, with a report.   make test: lint and tests.   make test-slow: the longer tests.
# make wordnet: WordNet 3.0, for data_processing/build_dictionary.py, where it is not there yet.
# make horovod: what training on several processes needs; GPU=1 make horovod: the same with CUDA and NCCL.
# PYTHON chooses the interpreter (3.10 to 3.13), TENSORFLOW the build, e.g. TENSORFLOW='tensorflow[and-cuda]'.
PYTHON ?= python3
TENSORFLOW ?= tensorflow-cpu
VENV := .venv
# The stamp's name holds the choice of TensorFlow, so that another choice installs anew.
STAMP := $(VENV)/installed-$(subst [,-,$(subst ],,$(TENSORFLOW)))

WORDNET := $(VENV)/installed-wordnet
HOROVOD := $(VENV)/installed-horovod$(if $(GPU),-gpu)

.PHONY: demo test test-slow install horovod wordnet clean

demo: $(STAMP)
	$(VENV)/bin/python demo/run_demo.py

test: $(STAMP) $(HOROVOD) $(WORDNET)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/python -m pytest -m "not slow"

test-slow: $(STAMP) $(HOROVOD) $(WORDNET)
	$(VENV)/bin/python -m pytest -m slow

install: $(STAMP)

wordnet: $(WORDNET)

horovod: $(HOROVOD)

$(STAMP): requirements.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info[:2] <= (3, 13) or sys.exit("Python 3.10 to 3.13 is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(VENV)
	sed 's/^tensorflow-cpu/$(TENSORFLOW)/' requirements.txt > $(VENV)/requirements.txt
	$(VENV)/bin/python -m pip install --disable-pip-version-check --progress-bar off -q -r $(VENV)/requirements.txt -r requirements-dev.txt
	touch $@

$(HOROVOD): $(STAMP) $(wildcard setup/horovod/*)
	GPU=$(GPU) setup/horovod/install.sh $(VENV)
	touch $@

$(WORDNET): $(STAMP) setup/wordnet/install.sh
	setup/wordnet/install.sh $(VENV)
	touch $@

clean:
	rm -rf $(VENV) out
