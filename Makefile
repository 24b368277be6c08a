# The commands of this repository. `make demo` and `make test` install what they need.
SHELL = /bin/sh
PYTHON ?= python3
packages = pkg-config libprotobuf-c-dev zlib1g-dev
apt_install = \
  if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi; \
  $$sudo apt-get update -q && \
  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends

# Pictures are read where their decoders are installed. Every build has the same traits: with others,
# all of it would be built again.
traits = $(shell pkg-config --exists libpng libjpeg 2>/dev/null && echo --traits default,Media)

.PHONY: setup setup-pictures setup-check build library qtools install uninstall wheel dist test test-c test-python test-reference test-debug check docs bench bench-shapes tune demo cluster-test fixtures format format-check operators onnx-cases digests sweep fuzz fuzz-briefly sanitize

# Installs the two C libraries if pkg-config does not find them.
setup:
	@command -v swift >/dev/null || { \
	  echo "swift is not on the PATH: install Swift 6.3 from https://swift.org/install" >&2; exit 1; }
	@if command -v pkg-config >/dev/null && pkg-config --exists libprotobuf-c zlib; then :; \
	elif command -v apt-get >/dev/null; then $(apt_install) $(packages); \
	elif command -v brew >/dev/null; then brew install pkg-config protobuf-c zlib; \
	else \
	  echo "install the development files of protobuf-c and zlib, and pkg-config" >&2; exit 1; \
	fi

# Installs the decoders of PNG and JPEG, for samples that are pictures.
setup-pictures: setup
	@if pkg-config --exists libpng libjpeg; then :; \
	elif command -v apt-get >/dev/null; then $(apt_install) libpng-dev libjpeg-dev; \
	elif command -v brew >/dev/null; then brew install libpng jpeg-turbo; \
	else \
	  echo "install the development files of libpng and libjpeg-turbo" >&2; exit 1; \
	fi

# Installs what some tests need, which are skipped without it: an emulator and a C library for the
# kernels for 64-bit ARM, and the generator of the protobuf code.
setup-check: setup-pictures
	@command -v qemu-aarch64 >/dev/null && test -e /usr/aarch64-linux-gnu/lib/crt1.o \
	  && command -v protoc-c >/dev/null || \
	  { $(apt_install) qemu-user libc6-dev-arm64-cross protobuf-c-compiler; }

build: setup
	swift build -c release $(traits)

# The library for C and every language that calls it: libqm.so, libqm.a and qm.h in .build/library, with
# the Swift runtime inside. Both define the functions of qm.h alone.
library = .build/library
library_targets = CQM CQMKernels CQMThreads QMTensor QMOperations QMFormat QMRuntime QMLibrary
swift_libraries = swiftCore swift_Concurrency swiftSynchronization swift_StringProcessing \
  swift_RegexParser swift_Builtin_float swiftGlibc swiftSwiftOnoneSupport dispatch BlocksRuntime
library: setup
	@mkdir -p $(library)
	@{ echo '{ global:'; sed 's/$$/;/' Tests/Packages/C/symbols.txt; echo 'local: *; };'; } \
	  > $(library)/exports.map
	swift build -c release --product qm -Xswiftc -static-stdlib --disable-default-traits \
	  --scratch-path $(library)/build \
	  -Xlinker --version-script=$(CURDIR)/$(library)/exports.map
	@strip -o $(library)/libqm.so $(library)/build/release/libqm.so
	@cp Sources/CQM/include/qm.h $(library)
	@# One object, so that the names of the Swift runtime can be local: a program may have another one.
	@rm -f $(library)/libqm.a
	@runtime=$$(dirname "$$(dirname "$$(readlink -f "$$(command -v swift)")")")/lib/swift_static/linux && \
	ld -r -o $(library)/qm.o \
	  $$(cd $(library)/build/release && find $(addsuffix .build,$(library_targets)) -name '*.o' \
	    | sed 's,^,$(library)/build/release/,') \
	  "$$runtime/$$(uname -m)/swiftrt.o" -L"$$runtime" \
	  --start-group $(addprefix -l,$(swift_libraries)) --end-group && \
	objcopy --keep-global-symbols=Tests/Packages/C/symbols.txt $(library)/qm.o && \
	strip --strip-unneeded $(library)/qm.o && ar rcs $(library)/libqm.a $(library)/qm.o && \
	rm $(library)/qm.o

# All tools in one program: the name that it is called by says which it is. The Swift runtime is inside;
# without pictures, whose decoders are the system's, so is libc (on Linux), and it runs everywhere.
static = .build/static
static_flags = --static-swift-stdlib \
  $(if $(qtools_traits),,$(if $(filter Linux,$(shell uname)),-Xswiftc -static-executable))
qtools: setup
	swift build -c release $(qtools_traits) --product qtools $(static_flags) --scratch-path $(static)
	@strip -o $(static)/qtools $(static)/release/qtools

# Installs the tools, and what bash, zsh and fish complete their options with:
# make install [PREFIX=/usr/local] [DESTDIR=folder]; make uninstall with the same removes them.
PREFIX ?= /usr/local
tools = qconvert qverify qinspect qrun qtune qexport
programs = $(DESTDIR)$(PREFIX)/bin
bash = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zsh = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fish = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
install: qtools_traits = $(traits)
install: qtools
	@mkdir -p "$(programs)" "$(bash)" "$(zsh)" "$(fish)"
	install -m 755 $(static)/qtools "$(programs)/qtools"
	@set -e; for tool in $(tools); do \
	  ln -sf qtools "$(programs)/$$tool"; \
	  "$(programs)/$$tool" --generate-completion-script bash > "$(bash)/$$tool"; \
	  "$(programs)/$$tool" --generate-completion-script zsh > "$(zsh)/_$$tool"; \
	  "$(programs)/$$tool" --generate-completion-script fish > "$(fish)/$$tool.fish"; \
	done

uninstall:
	@for tool in $(tools); do \
	  rm -f "$(programs)/$$tool" "$(bash)/$$tool" "$(zsh)/_$$tool" "$(fish)/$$tool.fish"; \
	done
	rm -f "$(programs)/qtools"

# The Python package with the library and all tools, the Swift runtime inside: dist/swift_qm-*.whl.
wheel = .build/wheel
wheel: library qtools
	@rm -rf $(wheel)/package $(wheel)/environment && mkdir -p $(wheel)/package dist
	@cp -r Sources/Python/. $(wheel)/package && mkdir $(wheel)/package/swift_qm/bin
	@cp $(library)/libqm.so $(wheel)/package/swift_qm
	@cp $(static)/qtools $(wheel)/package/swift_qm/bin
	@sed -n 's/.*packageVersion = "\(.*\)"/\1/p' Sources/QMTensor/PackageVersion.swift \
	  > $(wheel)/package/VERSION
	@$(PYTHON) -m venv $(wheel)/environment && $(wheel)/environment/bin/pip install -q "setuptools>=77" wheel
	@cd $(wheel)/package && ../environment/bin/python -c "import setuptools; setuptools.setup()" -q \
	  bdist_wheel --plat-name manylinux_2_36_x86_64 --dist-dir $(CURDIR)/dist
	@ls -l dist/swift_qm-*.whl

# Everything for machines without Swift, in dist: an archive of the tools with completions, the library
# and qm.h; the Python package; and the checksums of both. For the kind of machine that it runs on, and
# without pictures.
version = $(shell git describe --tags --always --dirty)
archive = swift-qm-$(version)-$(shell uname -s | tr A-Z a-z)-$(shell uname -m)
dist: wheel
	@rm -rf .build/dist && mkdir -p .build/dist/$(archive)/lib .build/dist/$(archive)/include
	@$(MAKE) --no-print-directory install \
	  DESTDIR=$(CURDIR)/.build/dist/$(archive) PREFIX= qtools_traits=
	@cp $(library)/libqm.so $(library)/libqm.a .build/dist/$(archive)/lib
	@cp $(library)/qm.h .build/dist/$(archive)/include
	@cp LICENSE README.md CHANGELOG.md SECURITY.md .build/dist/$(archive)
	@# Equal files give an equal archive.
	@tar -C .build/dist --sort=name --owner=0 --group=0 --numeric-owner \
	  --mtime=@$$(git log -1 --format=%ct) -cf - $(archive) | gzip -9n > dist/$(archive).tar.gz
	@cd dist && sha256sum $(archive).tar.gz swift_qm-*.whl > SHA256SUMS && cat SHA256SUMS

# Installs the Python package in a fresh environment and tests it there.
test-python: wheel
	@rm -rf $(wheel)/fresh && $(PYTHON) -m venv $(wheel)/fresh
	@$(wheel)/fresh/bin/pip install -q --force-reinstall dist/swift_qm-*.whl
	cd $(wheel) && QM_FIXTURES=$(CURDIR)/fixtures fresh/bin/python \
	  $(CURDIR)/Tests/Packages/Python/test_swift_qm.py

# Compares the tools with the interpreter that was written from schema/ alone, bit for bit. Skipped, in
# words, where there is no Python with NumPy 2.
reference = .build/reference
has_numpy = -c 'import sys, numpy; sys.exit(int(numpy.__version__.split(".")[0]) < 2)'
test-reference: build
	@for python in "$(PYTHON)" $(reference)/bin/python; do \
	  "$$python" $(has_numpy) 2>/dev/null && break; python=; \
	done; \
	if [ -z "$$python" ]; then \
	  $(PYTHON) -m venv $(reference) && $(reference)/bin/pip install -q 'numpy>=2' || { \
	    echo "test-reference: skipped; it needs Python with NumPy 2, which cannot be installed here" >&2; exit 0; }; \
	  python=$(reference)/bin/python; \
	fi; \
	"$$python" Tests/Packages/PythonReference/check.py .build/release

# Runs a network from C and C++.
test-c: build library
	bash Tests/Packages/C/check.sh

test: setup
	swift test -c release $(traits)
	bash Tests/Packages/Embedding/check.sh

# Runs what every change must pass: the format check, all tests (one of them compares the generated
# code with its source), the programs in C and C++, the interpreter in Python, the quick tests in debug mode, and a minute of fuzzing.
check: setup-check format-check test test-c test-reference test-debug fuzz-briefly

test-debug: setup
	swift test $(traits) --filter '$(quick_tests)'
quick_tests = QMTensorTests|QMNumPyTests|QMMediaTests|QMFormatTests|QMGraphTests|QMReportTests

# Writes the documentation of the runtime and of converting from code to .build/documentation. Fails
# on a public declaration without a comment, and on a broken link.
documented = QMRuntime QMQuantization
commented = QMTensor QMNumPy QMReport QMRuntime
docs: setup
	@! swift format lint --recursive $(addprefix Sources/,$(commented)) \
	  --configuration '{"version": 1, "rules": {"AllPublicDeclarationsHaveDocumentation": true}}' \
	  2>&1 | grep AllPublicDeclarationsHaveDocumentation
	@mkdir -p .build/documentation
	@for target in $(documented); do \
	  QM_DOCUMENTATION=1 swift package --allow-writing-to-directory .build/documentation \
	    generate-documentation --target $$target --warnings-as-errors \
	    --output-path .build/documentation/$$target || exit 1; \
	done

# Converts real networks to 8 and 4 bits, verifies them, and prints sizes and accuracy.
demo: build
	bash Tests/Tools/Demo/demo.sh

# Times layers of 200 shapes beside ONNX Runtime: make bench-shapes [OPTIONS=…]
bench-shapes: build
	bash Tests/Benchmarks/bench.sh --shapes $(OPTIONS)

# Measures what the forms of convolutions cost on this machine, for Sources/QMRuntime/WinogradCosts.swift.
tune: setup
	@swift build -c release $(traits) --product tune >&2
	@.build/release/tune

# Compares the speed with ONNX Runtime and OpenVINO: make bench [QM_BENCH_MODELS=folder] [OPTIONS=…]
bench: build
	bash Tests/Benchmarks/bench.sh $(OPTIONS)

# Observes samples in parts on a Ray cluster of two nodes on the loopback, and kills one. Installs Ray.
cluster = .build/cluster
cluster-test: build
	@test -x $(cluster)/bin/ray || $(PYTHON) -m venv $(cluster)
	@$(cluster)/bin/pip install -q -r Tests/Examples/cluster/requirements.txt
	bash Tests/Examples/cluster/test.sh $(CURDIR)/$(cluster)/bin/python .build/release

# Regenerates the fixtures of NumPy's formats, byte for byte. fixtures/README.md names the scripts for
# all other fixtures.
fixtures:
	$(PYTHON) fixtures/generate/npy.py

# Writes the table of operators into schema/operators.md.
operators: setup
	@swift build -c release $(traits) --product qconvert >&2
	@.build/release/qconvert --list-operators > .build/operators-table.md
	@awk '/^\| operator /{while ((getline line < ".build/operators-table.md") > 0) print line; skip = 1} \
	  skip && !/^\|/{skip = 0} !skip' schema/operators.md > .build/operators.md
	@cp .build/operators.md schema/operators.md

# Whether `make format` would change nothing.
format-check:
	@rm -rf .build/format && mkdir -p .build/format
	@git ls-files '*.swift' .swift-format | tar cf - -T - | tar xf - -C .build/format
	@cd .build/format && swift format format --in-place --recursive --parallel .
	@git ls-files '*.swift' | { status=0; while read -r file; do \
	  cmp -s "$$file" ".build/format/$$file" || { echo "$$file: make format" >&2; status=1; }; \
	  done; exit $$status; }

format:
	swift format format --in-place --recursive --parallel Package.swift Sources Tests

# Runs ONNX's operator test cases: make onnx-cases CASES=folder [LIST=file] [VERBOSE=1]
onnx-cases: setup
	@test -n "$(CASES)" || { echo "usage: make onnx-cases CASES=folder [LIST=file]" >&2; exit 64; }
	@swift build -c release $(traits) --product onnx-cases >&2
	@.build/release/onnx-cases $(CASES) $(LIST) $(if $(VERBOSE),--verbose)

# Prints a digest of the conversion of every network in fixtures/ and, unless QUICK is set, in MODELS.
# Before a change: make digests > before; after it: make digests | diff before -
MODELS ?= ../shared/models
digests: setup
	@swift build -c release $(traits) --product digests >&2
	@.build/release/digests fixtures/onnx fixtures/models $(if $(QUICK),,$(wildcard $(MODELS)))

# Converts and runs networks drawn at random: make sweep [SECONDS=900] [SEED=1]
SECONDS ?= 900
SEED ?= 1
sweep: setup
	@swift build -c release $(traits) --product sweep >&2
	@.build/release/sweep $(SECONDS) $(SEED)

# Fuzzes every reader of untrusted files: make fuzz [MINUTES=5] [TARGETS="onnx npz"]
MINUTES ?= 5
fuzz: build
	bash Tests/Packages/Fuzzing/fuzz.sh $$(($(MINUTES) * 60)) $(TARGETS)

fuzz-briefly: build
	bash Tests/Packages/Fuzzing/fuzz.sh 12

# Runs the test suite under the address sanitizer, then under the thread sanitizer.
sanitize: setup
	ASAN_OPTIONS=detect_leaks=0 \
	  swift test -c release $(traits) --scratch-path .build-address --sanitize address
	swift test -c release $(traits) --scratch-path .build-thread --sanitize thread
