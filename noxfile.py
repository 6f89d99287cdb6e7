"""Everything that is done to this project: `python3 noxfile.py [SESSION ...] [NOX OPTIONS]`.

Run as a program it needs nothing but Python: it makes a virtual environment with Nox in it,
once, and hands over to it. So it works where the system's Python is managed by the
distribution. With Nox at hand, `nox -s SESSION` is the same.

    python3 noxfile.py demo         the main job, on an SQS server on this machine
    python3 noxfile.py example      a web application and its worker, to be tried in a browser
    python3 noxfile.py tests        the tests, on the running Python
    python3 noxfile.py tests-3.12   the tests, on that Python
    python3 noxfile.py pythons      the tests, on all the Pythons that they should pass on
    python3 noxfile.py --list       the other sessions
"""

# Up to `import nox`, old Pythons have to understand this too, to say what is wrong.

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
OWN = HERE / ".nox" / ".bootstrap"


def run_as_program(arguments: "list[str]") -> "int | str":
    """Run Nox, from an environment of our own where there is none; returns its exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 - said here, or nobody says it plainly
        version = ".".join(map(str, sys.version_info[:2]))
        return f"This needs Python 3.11 or newer, and {sys.executable} is Python {version}."
    python = sys.executable
    if importlib.util.find_spec("nox") is None:
        python = str(OWN / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        problem = make_own_environment(python)
        if problem:
            return problem
    sessions = []
    while arguments and not arguments[0].startswith("-"):
        sessions.append(arguments.pop(0))
    command = [python, "-m", "nox", "-f", str(HERE / "noxfile.py")]
    if sessions:
        command += ["-s", *sessions]
    nox = subprocess.Popen(command + arguments)
    while True:
        try:
            return nox.wait()
        except KeyboardInterrupt:
            pass  # Nox has it too, and gives what it runs time to end


def make_own_environment(python: str) -> "str | None":
    """Make the environment unless it is there and whole; returns what is wrong, if anything."""
    # Written last, so that an interrupted attempt is not taken for a whole one. It names the
    # path and the Python, since an environment survives neither a move nor an upgrade.
    stamp = OWN / "complete"
    facts = f"{OWN} {sys.base_prefix} {sys.version}"
    if stamp.exists() and stamp.read_text("utf-8") == facts:
        return None
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            return (
                f"{sys.executable} cannot make virtual environments, since it lacks '{module}'."
                " Install that first; on Debian and Ubuntu: apt install python3-venv"
            )
    print("Setting up Nox in .nox/.bootstrap, once ...", flush=True)
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(OWN)]) != 0:
        return f"{sys.executable} could not make a virtual environment; why, it says above."
    if subprocess.call([*pip, "install", "nox>=2025.5"]) != 0:
        return "pip could not install Nox; why, it says above."
    install_uv(python, pip)
    stamp.write_text(facts, "utf-8")
    return None


def install_uv(python: str, pip: "list[str]") -> None:
    """Install uv, with which Nox makes its environments many times faster, where it works.

    It reads none of pip's settings (index, proxy, certificates), so it is tried out, and
    dropped where it gets nothing although pip did.
    """
    tried = [python, "-m", "uv", "pip", "install", "--dry-run", "--python", python, "hatchling"]
    if quiet([*pip, "install", "uv"]) == 0 and quiet(tried) != 0:
        quiet([*pip, "uninstall", "--yes", "uv"])


def quiet(command: "list[str]") -> int:
    """Run *command* and return its exit code; what it says is not shown."""
    return subprocess.run(command, capture_output=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(run_as_program(sys.argv[1:]))


import nox  # noqa: E402

PYPROJECT = nox.project.load_toml(HERE / "pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
# It may be missing, and Nox says so as if it may not.
logging.getLogger("nox").addFilter(lambda record: record.getMessage() != "uv binary not found.")
# Kept from run to run. What they need is installed each time all the same, so a changed
# pyproject.toml is noticed.
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "typing", "docs", "tests"]


def install(session: nox.Session, *groups: str, extras: str = "", pins: Sequence[str] = ()) -> None:
    """Install dependency groups and the package, from a wheel built now, beside *pins*."""
    session.install("hatchling", *nox.project.dependency_groups(PYPROJECT, *groups))
    wheels = Path(session.create_tmp()) / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    build = ["hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    session.run("python", "-m", *build, silent=True)
    (wheel,) = wheels.iterdir()
    session.install(f"{wheel}{extras}", *pins)
    # Its version may be that of the wheel before it, which would be kept.
    session.install("--force-reinstall", "--no-deps", str(wheel))


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and the direction of imports."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-cache", "--no-logo", env={"PYTHONPATH": str(HERE)})


EXAMPLES = ["fastapi", "aiohttp", "litestar"]


@nox.session
def typing(session: nox.Session) -> None:
    """Strict types, of the tests too; what users see, by two checkers.

    Arguments after `--` choose one of them: `mypy` or `basedpyright`.
    """
    install(session, "typing", extras="[testing,cli]")
    # basedpyright would look into a `.venv` in the root, if there is one.
    options = {"mypy": [], "basedpyright": ["--pythonpath", str(Path(session.bin) / "python")]}
    for checker in session.posargs or options:
        session.run(checker, *options[checker])
    if "mypy" in (session.posargs or options):
        for example in EXAMPLES:
            # A project of its own: others, too, have a module of the name `app`.
            with session.chdir(HERE / "docs/examples" / example):
                session.run("mypy", f"--config-file={HERE / 'pyproject.toml'}", ".")


# In two processes, where there are two cores; with `--pdb` in pytest's own. Each takes from the
# other's tests when it has done its own. A test that hangs ends its process, which is replaced:
# but not again and again, since each takes minutes until it is ended.
PARALLEL = ["-n=auto", "--maxprocesses=2", "--dist=worksteal", "--max-worker-restart=2"]


def tests(session: nox.Session) -> None:
    """The tests, against the installed wheel, in two processes.

    Arguments after `--` go to pytest; `-- -n 0` runs the tests in one. HYPOTHESIS_PROFILE=full
    has them make up ten times as many cases, as they do where CI is set.
    """
    if session.python is None:
        # Before pytest, whose summary should be the last that is seen.
        running = ".".join(map(str, sys.version_info[:2]))
        others = ", ".join(each for each in PYTHONS if each != running)
        session.warn(f"NOT CHECKED on Python {others}: 'nox -s pythons' runs the tests there")
    install(session, "test", extras="[testing,cli]")
    # Without this, `python -m` would put the working directory, and so the source tree,
    # before the installed wheel, in the processes that tests start too.
    session.run("pytest", *PARALLEL, *session.posargs, env={"PYTHONSAFEPATH": "1"})


nox.session(tests)
for version in PYTHONS:
    nox.session(name=f"tests-{version}", python=version, default=False)(tests)


@nox.session(default=False, venv_backend="none")
def pythons(session: nox.Session) -> None:
    """The tests, on each Python that pyproject.toml names.

    One that is not here is a failure, and the summary names it. With Nox's own option
    `--no-error-on-missing-interpreters` it is named as skipped. Arguments after `--` go to pytest.
    """
    for version in PYTHONS:
        session.notify(f"tests-{version}", session.posargs)


@nox.session(name="tests-lowest", default=False)
def tests_lowest(session: nox.Session) -> None:
    """The tests, with the lowest versions of the dependencies that pyproject.toml allows."""
    # OpenTelemetry's belong together: of a group come the SDK and what instruments FastAPI.
    group = nox.project.dependency_groups(PYPROJECT, "test")
    dependencies = [
        *PYPROJECT["project"]["dependencies"],
        *(each for each in group if each.startswith("opentelemetry")),
    ]
    lowest = [each.replace(">=", "==") for each in dependencies]
    install(session, "test", extras="[testing,cli]", pins=lowest)
    # The botocore of that time says so itself.
    old = "ignore:datetime.datetime.utcnow:DeprecationWarning"
    session.run("pytest", *PARALLEL, "-W", old, *session.posargs, env={"PYTHONSAFEPATH": "1"})


LIBRARIES = ["pydantic", "msgspec", "orjson"]
BODIES = {"none": [], "pydantic": ["pydantic"], "msgspec": ["msgspec"], "all": LIBRARIES}


@nox.session(default=False)
@nox.parametrize("which", [*BODIES, "lowest"], ids=[*BODIES, "lowest"])
def bodies(session: nox.Session, which: str) -> None:
    """The tests of bodies, with none of the libraries for them, one, all, and the lowest of all."""
    # Not the whole group: it has all of them, and so has moto's server.
    group = nox.project.dependency_groups(PYPROJECT, "test")
    session.install(*(each for each in group if each.startswith(("hypothesis", "pytest"))))
    names = BODIES.get(which, LIBRARIES)
    extras = PYPROJECT["project"]["optional-dependencies"]
    pins = [each.replace(">=", "==") for name in names for each in extras[name]]
    wanted = f"[{','.join(names)}]" if names else ""
    install(session, extras=wanted, pins=pins if which == "lowest" else [])
    files = ["codecs", "codecs_round_trips", "jsontext"]
    tests = [f"tests/unit/test_{name}.py" for name in files]
    session.run("pytest", *tests, *session.posargs, env={"PYTHONSAFEPATH": "1"})


# What the faults session runs: on which server, what, and with which settings. What fails soon
# comes first, what takes long last.
STRICT, SMALL, VOLUME = "elasticmq", "moto", "fauxqs"
DECISIVE = ["round_trips", "killed_workers", "reply_queue_lost", "broken_set_ups", "paths"]
FAULTS: list[tuple[str, list[str], dict[str, str]]] = [
    (STRICT, ["tests/contract", "tests/integration", "tests/legacy", "tests/processes"], {}),
    (STRICT, ["tests/faults"], {}),
    (SMALL, ["tests/contract", "tests/faults", "tests/cli"], {}),
    # By the stock client, which makes the calls where the lean path does not fit.
    (
        VOLUME,
        [f"tests/faults/test_{name}.py" for name in DECISIVE],
        {"SQS_FAULTS": "cases", "SQS_ORCHESTRATOR_LEAN": "0"},
    ),
    (VOLUME, ["tests/contract"], {}),
    (VOLUME, ["tests/faults"], {"SQS_FAULTS": "all"}),
]
WITHOUT_STRICT = "--without-elasticmq"


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """What goes wrong, at full length, on three servers; `tests` runs a part of it on one.

    ElasticMQ, the strict one, needs Java 17 and Maven. Where they are not, this fails, unless
    `-- --without-elasticmq` leaves it out. Other arguments after `--` go to pytest.
    """
    posargs = [argument for argument in session.posargs if argument != WITHOUT_STRICT]
    without = len(posargs) < len(session.posargs)
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing and not without:
        session.error(
            f"ElasticMQ needs Java 17 and Maven, and there is no {' and no '.join(missing)}."
            f" To check nothing on it: nox -s faults -- {WITHOUT_STRICT}"
        )
    install(session, "test", extras="[testing,cli]")
    for server, paths, settings in FAULTS:
        if without and server == STRICT:
            continue
        session.log(f"on {server}: {' '.join(paths)} {settings or ''}")
        # What else is set outside would have it run something else.
        unset = dict.fromkeys(["SQS_ENDPOINT_URL", "SQS_FAULTS", "SQS_ORCHESTRATOR_LEAN"])
        env = {**unset, "PYTHONSAFEPATH": "1", "SQS_SERVER": server, **settings}
        # Minutes for one test are usual here.
        options = ["-o", "faulthandler_timeout=1800"]
        # With `-k`, some of the runs may find nothing to do.
        codes = [0, 5] if posargs else [0]
        session.run("pytest", *options, *paths, *posargs, env=env, success_codes=codes)
    if posargs:
        session.warn(f"Only what {' '.join(posargs)} left to do was done.")
    if without:
        session.warn("NOT CHECKED on ElasticMQ, the strict server: it was left out.")


SERVERS = ["moto", "fauxqs", "elasticmq", "localstack", "ministack"]


@nox.session(default=False)
def servers(session: nox.Session) -> None:
    """Requester and worker on each server that imitates SQS, each with its known deviations.

    Arguments after `--` choose some of them: `-- localstack ministack`. One that cannot run is a
    failure, and the summary names it. LocalStack is large: its first run installs 200 MB.
    """
    chosen = session.posargs or SERVERS
    unknown = sorted({*chosen} - {*SERVERS})
    if unknown:
        session.error(f"{', '.join(unknown)}: none of {', '.join(SERVERS)}")
    install(session, "test", extras="[testing,cli]")
    failed: dict[str, str] = {}
    for server in chosen:
        session.log(f"on {server}")
        # What else is set outside would have it run something else.
        unset = dict.fromkeys(["SQS_ENDPOINT_URL", "SQS_ORCHESTRATOR_LEAN"])
        env = {**unset, "PYTHONSAFEPATH": "1", "SQS_SERVER": server}
        tests = ["tests/contract", "tests/integration", "tests/processes"]
        try:
            # Those that are about no server are the business of `tests`.
            session.run("pytest", "-m", "server", *tests, env=env)
        except nox.command.CommandFailed as error:
            # What is missing is a usage error, since no test was run.
            missing = str(error.reason).endswith("code 4")
            failed[server] = "NOT CHECKED, it cannot run here" if missing else "FAILED"
    if failed:
        session.error("; ".join(f"{server}: {what}" for server, what in failed.items()))


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """A mixed load for a quarter of an hour: nothing may grow. `tests` runs a minute."""
    install(session, "test", extras="[testing,cli]")
    env = {"PYTHONSAFEPATH": "1", "SQS_SOAK": "900"}
    options = ["-o", "faulthandler_timeout=1800", "-rP"]
    session.run("pytest", *options, "tests/soak", *session.posargs, env=env)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; a warning is an error."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "docs"))
    build_pages(session, "--clean", *session.posargs)


def build_pages(session: nox.Session, *options: str, **env: str) -> None:
    """Build the documentation; a warning is an error."""
    # The theme has an announcement for every build.
    env["NO_MKDOCS_2_WARNING"] = "1"
    # Not `--quiet`: MkDocs would count no warning then, and pass with broken links.
    session.run("mkdocs", "build", "--strict", *options, env=env)


NO_CHROMIUM = "there is no Chromium: apt-get install chromium, or name one by CHROMIUM=/path/to/it"


def chromium() -> str | None:
    """The browser that pages are looked at with."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


@nox.session(default=False)
def site(session: nox.Session) -> None:
    """Look at every page of the documentation with Chromium, as on a desk and on a telephone.

    Arguments after `--` go to the program: `--pictures DIRECTORY` keeps pictures of all pages.
    """
    browser = chromium()
    if browser is None:
        session.error(f"NOT CHECKED, since {NO_CHROMIUM}")
    session.install(*nox.project.dependency_groups(PYPROJECT, "docs", "browser"))
    pages = str(Path(session.create_tmp()).resolve() / "pages")
    # As it is built there: some links are made from this.
    at = "http://localhost/en/latest/"
    build_pages(session, "--site-dir", pages, READTHEDOCS_CANONICAL_URL=at)
    session.run("python", "-m", "tests.site", pages, "--browser", browser, *session.posargs)


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """The main job, on an SQS server on this machine."""
    install(session, extras="[testing,cli]")
    session.run(
        "python", "-m", "sqs_orchestrator", "demo", *session.posargs, env={"PYTHONSAFEPATH": "1"}
    )


@nox.session(default=False)
def example(session: nox.Session) -> None:
    """Start an example, with an SQS server for it: `-- fastapi`, `-- aiohttp` or `-- litestar`."""
    install(session, "examples", extras="[testing,opentelemetry]")
    command = ["docs/examples/run.py", *(session.posargs or EXAMPLES[:1])]
    # Ctrl-C reaches it, too: it needs time to close in good order.
    session.run("python", *command, interrupt_timeout=60.0)


@nox.session(default=False)
def examples(session: nox.Session) -> None:
    """The tests of the examples, all of them, and in a browser; `tests` runs a part of them.

    Arguments after `--` go to pytest.
    """
    if chromium() is None:
        session.warn(f"NOT CHECKED in a browser, since {NO_CHROMIUM}")
    install(session, "test", "browser", extras="[testing,cli]")
    env = {"PYTHONSAFEPATH": "1", "SQS_EXAMPLES": "all"}
    session.run("pytest", "tests/examples", *session.posargs, env=env)


@nox.session(default=False)
def benchmark(session: nox.Session) -> None:
    """Measure it against its peers, on one server. Arguments after `--` go to the benchmark."""
    install(session, "benchmark")
    # From the root, so that its processes find `tests`.
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session(default=False)
def interop(session: nox.Session) -> None:
    """Requests both ways with AWS's Temporary Queue Client for Java, on two servers.

    It needs Java 17 and Maven, and fails where they are not. Arguments after `--` go to pytest.
    """
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing:
        session.error(
            f"This needs Java 17 and Maven, and there is no {' and no '.join(missing)}: NOTHING"
            " was checked."
        )
    install(session, "test", extras="[testing,cli]")
    for server in (STRICT, VOLUME):
        env = {"PYTHONSAFEPATH": "1", "SQS_INTEROP": "1", "SQS_SERVER": server}
        session.run("pytest", "tests/interop", *session.posargs, env=env)
