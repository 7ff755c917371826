"""Runs Kiln and Optuna on the same studies. Started by run.sh, which prepares everything."""

import argparse
import json
import math
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request

import optuna
import sqlalchemy
from optuna.trial import TrialState

optuna.logging.set_verbosity(optuna.logging.ERROR)
STUDY = "many-processes"


def storage(url):
    """Opens a URL of Kiln with Optuna."""
    if url.startswith("journal:"):
        backend = optuna.storages.journal.JournalFileBackend(url.removeprefix("journal:"))
        return optuna.storages.JournalStorage(backend)
    return optuna.storages.RDBStorage(python_url(url))


def python_url(url):
    return url.replace("mysql://", "mysql+pymysql://").replace("postgresql://", "postgresql+psycopg2://")


def objective(trial):
    value = 0.0
    for i in range(5):
        value += trial.suggest_float(f"x{i}", -1, 1) ** 2
        trial.report(value, i)
    trial.set_user_attr("process", os.getpid())
    return value


def worker(url, n_trials):
    for attempt in range(10):
        try:
            backend = storage(url)
            break
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.OperationalError):
            # Optuna does not expect another process to create an empty database's tables while it does so itself.
            if attempt == 9:
                raise
            time.sleep(0.5)
    study = optuna.create_study(study_name=STUDY, storage=backend, load_if_exists=True)
    study.optimize(objective, n_trials=n_trials)


def strict(value):
    """JSON without its non-finite numbers, as `kiln-study --json` prints it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(v) for v in value]
    return value


class Interop:
    def __init__(self, kiln, many, urls, trials, processes, kill_seconds):
        self.kiln, self.many, self.urls = kiln, many, urls
        self.trials, self.processes, self.kill_seconds = trials, processes, kill_seconds

    def run_kiln(self, *arguments):
        return subprocess.run([self.kiln, *arguments], check=True, capture_output=True, text=True).stdout

    def compare(self, url, name):
        """Both must read the same trials."""
        study = optuna.load_study(study_name=name, storage=storage(url))
        ours = json.loads(self.run_kiln("trials", "--json", "--storage", url, "--study", name))
        theirs = study.get_trials(deepcopy=False)
        assert len(ours) == len(theirs), (name, len(ours), len(theirs))
        for a, b in zip(ours, theirs):
            expected = {
                "number": b.number,
                "state": b.state.name,
                "values": strict(b.values),
                "params": strict(b.params),
                "distributions": {
                    k: strict(json.loads(optuna.distributions.distribution_to_json(d))) for k, d in b.distributions.items()
                },
                "user_attrs": strict(b.user_attrs),
                "system_attrs": strict(b.system_attrs),
                "intermediate_values": strict(b.intermediate_values),
                "constraints": strict(b.constraints),
            }
            for key, value in expected.items():
                assert a[key] == value, f"{name}, trial {b.number}, {key}: Kiln {a[key]!r}, Optuna {value!r}"
            # Types matter, too: 1 is not 1.0 in a choice.
            assert json.dumps(a["params"]) == json.dumps(expected["params"]), (a["params"], expected["params"])
            if b.datetime_start is not None:
                start = b.datetime_start.astimezone(__import__("datetime").timezone.utc)
                assert a["datetime_start"][:19] == start.isoformat()[:19], (a["datetime_start"], start)
        if len(study.directions) == 1:
            try:
                best = study.best_trial
            except ValueError:
                best = None
            if best is not None:
                # Of several trials with the best value MySQL gives Optuna any one.
                found = json.loads(self.run_kiln("best", "--json", "--storage", url, "--study", name))
                assert found["values"] == strict(best.values), (found["number"], best.number)
        return len(ours)

    def optuna_writes(self, url):
        store = storage(url)
        study = optuna.create_study(study_name="by 'Optuna' \"é\"", storage=store, direction="maximize")
        study.set_user_attr("who", {"a": [1, None, True, math.inf]})
        study.set_metric_names(["accuracy"])
        study.enqueue_trial({"f": 0.25, "c": None}, user_attrs={"note": "q"})

        def rich(trial):
            trial.suggest_float("f", -1.5, 2)
            trial.suggest_float("flog", 1e-5, 1, log=True)
            trial.suggest_float("fstep", 0, 1, step=0.25)
            trial.suggest_int("i", 1, 9, step=2)
            trial.suggest_int("ilog", 1, 1000, log=True)
            trial.suggest_categorical("c", ["a", 'é"x', None, True, 1, 2.5, math.inf])
            for step, value in enumerate([0.5, math.inf, -math.inf, math.nan]):
                trial.report(value, step)
            trial.set_user_attr("n", [math.nan, "é"])
            trial.set_constraint("c1", trial.number - 3.0)
            if trial.number == 2:
                raise optuna.TrialPruned
            if trial.number == 3:
                raise RuntimeError("on purpose")
            return [1.0, 2.0, 0.0, 0.0, math.inf, -math.inf, 4.0, 5.0][trial.number % 8]

        study.optimize(rich, n_trials=20, catch=RuntimeError)
        study.ask()
        n = self.compare(url, study.study_name)
        several = optuna.create_study(study_name="several", storage=store, directions=["minimize", "maximize"])
        several.optimize(lambda t: (t.suggest_float("x", 0, 1), -t.params["x"]), n_trials=5)
        n += self.compare(url, "several")
        return f"{n} trials that Optuna wrote are read alike"

    def kiln_writes(self, url):
        common = ["--storage", url, "--study", "by 'Kiln' \"é\""]
        self.run_kiln("create", *common, "--direction", "maximize", "--metric-name", "accuracy")
        self.run_kiln("enqueue", *common, "--set", "f=0.25", "--set", 'c="1"', "--user-attr", "note=é")
        space = ["f=float:-1.5..2", "flog=float:1e-5..1:log", "fstep=float:0..1:step=0.25", "i=int:1..9:step=2",
                 "ilog=int:1..1000:log", "c=choice:a,null,true,1,2.5,\"1\""]
        params = [word for spec in space for word in ("--param", spec)]
        script = ('for s in 0 1 2; do echo "step $s: 0.$s"; done; [ {trial} = 3 ] && exit 7;'
                  'echo "{{\\"value\\": {i}, \\"constraints\\": {{\\"c1\\": -1}}, \\"user_attrs\\": {{\\"n\\": [{f}]}}}}"')
        self.run_kiln("run", *common, *params, "--trials", "20", "--jobs", "2", "--quiet", "--pruner", "none", "--", "sh", "-c", script)
        self.run_kiln("ask", *common, *params)
        n = self.compare(url, "by 'Kiln' \"é\"")
        # Optuna goes on with it, with every one of its checks.
        study = optuna.load_study(study_name="by 'Kiln' \"é\"", storage=storage(url))
        assert study.metric_names == ["accuracy"] and study.direction.name == "MAXIMIZE"
        states = [t.state for t in study.get_trials(deepcopy=False)]
        assert states[3] == TrialState.FAIL and states[-1] == TrialState.RUNNING and states.count(TrialState.COMPLETE) == 19, states
        study.optimize(lambda t: t.suggest_float("f", -1.5, 2) + t.suggest_int("i", 1, 9, step=2), n_trials=5)
        n += self.compare(url, study.study_name) - n
        return f"{n} trials that Kiln and then Optuna wrote are read alike"

    def kiln_notes(self, url):
        """What Kiln notes and Optuna does not know, reports of several objectives and duplicates, disturbs none of Optuna."""
        name, common = "pruned by Kiln", ["--storage", url, "--study", "pruned by Kiln"]
        two = ["--direction", "minimize", "--direction", "maximize"]
        script = ('for s in 1 2 3; do echo "{{\\"step\\": $s, \\"values\\": [{n}, $s]}}"; done;'
                  'echo "{{\\"values\\": [{n}, {f}], \\"cv_scores\\": [1, 2, 3]}}"')
        asha = ["--pruner", "asha", "--pruner-kwargs", '{"min_resource": 1, "reduction_factor": 2}', "--seed", "1"]
        params = ["--param", "n=int:1..3", "--param", "f=choice:1,2"]
        self.run_kiln("run", *common, *two, *params, *asha, "--trials", "30", "--skip-duplicates", "--quiet", "--", "sh", "-c", script)
        self.compare(url, name)
        study = optuna.load_study(study_name=name, storage=storage(url))
        trials = study.get_trials(deepcopy=False)
        pruned = [t for t in trials if t.state == TrialState.PRUNED]
        repeated = [t for t in trials if "kiln:duplicate_of" in t.system_attrs]
        assert pruned and repeated, (len(pruned), len(repeated))
        for t in pruned:
            last = max(int(key.removeprefix("kiln:report:")) for key in t.system_attrs if key.startswith("kiln:report:"))
            assert t.values == t.system_attrs[f"kiln:report:{last}"] == [t.params["n"], last], t
        for t in repeated:
            assert t.params == trials[t.system_attrs["kiln:duplicate_of"]].params and t.system_attrs["terminator:cv_scores"] == [1, 2, 3]
        assert all(t.state == TrialState.COMPLETE for t in study.best_trials)
        samplers = [optuna.samplers.TPESampler(seed=1), optuna.samplers.TPESampler(seed=1, multivariate=True),
                    optuna.samplers.NSGAIISampler(seed=1), optuna.samplers.RandomSampler(seed=1)]
        for sampler in samplers:
            study = optuna.load_study(study_name=name, storage=storage(url), sampler=sampler)
            study.optimize(lambda t: (t.suggest_int("n", 1, 3), t.suggest_categorical("f", [1, 2])), n_trials=4)
        n = self.compare(url, name)
        return f"{len(pruned)} pruned trials of two objectives and {len(repeated)} duplicates; Optuna went on to {n} trials"

    def check_complete(self, url, at_least, exactly=True, orphans=0):
        """No number twice, none missing, no trial lost or half-written."""
        study = optuna.load_study(study_name=STUDY, storage=storage(url))
        trials = study.get_trials(deepcopy=False)
        assert [t.number for t in trials] == list(range(len(trials))), "numbers are not 0, 1, 2, ..."
        complete = [t for t in trials if t.state == TrialState.COMPLETE]
        running = [t for t in trials if t.state == TrialState.RUNNING]
        assert len(complete) + len(running) == len(trials), "a trial has failed"
        assert len(running) <= orphans, f"{len(running)} trials still run, at most {orphans} workers were killed"
        assert len(complete) == at_least if exactly else len(complete) >= at_least, (len(complete), at_least)
        for t in complete:
            assert list(t.params) == [f"x{i}" for i in range(5)] and len(t.intermediate_values) == 5, t
            assert t.value == t.intermediate_values[4] and "process" in t.user_attrs, t
        self.compare(url, STUDY)
        return complete, running

    def start(self, kind, url, n):
        command = [self.many, "worker", url, str(n)] if kind == "kiln" else [sys.executable, __file__, "worker", url, str(n)]
        return subprocess.Popen(command)

    def both_at_once(self, url):
        each = 25
        workers = [self.start(kind, url, each) for kind in ("kiln", "optuna", "kiln", "optuna")]
        assert [w.wait() for w in workers] == [0] * 4
        complete, _ = self.check_complete(url, 4 * each)
        assert len({t.user_attrs["process"] for t in complete}) == 4
        return f"2 Kiln and 2 Optuna workers finished {4 * each} trials together, none lost or doubled"

    def sixteen(self, url):
        start = time.monotonic()
        subprocess.run([self.many, url, str(self.processes), str(self.trials)], check=True, stdout=subprocess.DEVNULL)
        took = time.monotonic() - start
        self.check_complete(url, self.trials)
        return f"{self.processes} processes finished {self.trials} trials in {took:.1f} s, none lost"

    def own_file(self, url):
        """On a file that Optuna made, which has a rollback journal, many busy workers of ours leave Optuna its turns."""
        optuna.create_study(study_name=STUDY, storage=storage(url))
        theirs, each = 4, 4
        start = time.monotonic()
        ours = [self.start("kiln", url, 100000) for _ in range(self.processes)]
        try:
            codes = [w.wait() for w in [self.start("optuna", url, each) for _ in range(theirs)]]
            took = time.monotonic() - start
        finally:
            for w in ours:
                w.send_signal(signal.SIGKILL)
                w.wait()
        assert codes == [0] * theirs, f"{len(codes) - codes.count(0)} of {theirs} Optuna workers died"
        assert self.run_kiln("write-ahead-log", "--storage", url) == "off\n"
        assert self.run_kiln("write-ahead-log", "on", "--storage", url) == "on\n"
        complete, _ = self.check_complete(url, theirs * each, exactly=False, orphans=self.processes)
        return f"{theirs} Optuna workers beside {self.processes} busy ones of Kiln finished in {took:.1f} s; {len(complete)} trials in all"

    def killed(self, url):
        # Whoever is killed with the lock of a journal keeps the others out for its grace period of 30 seconds.
        seconds = max(self.kill_seconds, 75) if url.startswith("journal:") else self.kill_seconds
        rng, end, kills = random.Random(7), time.monotonic() + seconds, 0
        workers = [self.start("kiln", url, 100000) for _ in range(4)]
        while time.monotonic() < end:
            time.sleep(rng.uniform(0.0, 0.4))
            i = rng.randrange(len(workers))
            workers[i].send_signal(signal.SIGKILL)
            assert workers[i].wait() == -signal.SIGKILL, "a worker had ended before it was killed"
            kills += 1
            workers[i] = self.start("kiln", url, 100000)
        for w in workers:
            w.send_signal(signal.SIGKILL)
            w.wait()
        kills += len(workers)
        _, running = self.check_complete(url, 1, exactly=False, orphans=kills)
        # It is still in order for everybody.
        assert [w.wait() for w in (self.start("kiln", url, 10), self.start("optuna", url, 10))] == [0, 0]
        complete, _ = self.check_complete(url, 21, exactly=False, orphans=kills)
        if url.startswith("sqlite"):
            check = sqlite3.connect(url.removeprefix("sqlite:///")).execute("PRAGMA integrity_check").fetchone()
            assert check == ("ok",), check
        return f"{kills} workers killed with -9: {len(complete)} complete trials, {len(running)} left running, nothing else lost"

    def dashboard(self, url):
        """Opens the file with optuna-dashboard and fetches a study page."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        program = os.path.join(os.path.dirname(sys.executable), "optuna-dashboard")
        server = subprocess.Popen([program, url, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

        def get(path):
            return opener.open(f"http://127.0.0.1:{port}{path}", timeout=20).read().decode()

        try:
            for _ in range(100):
                try:
                    studies = json.loads(get("/api/studies"))
                    break
                except OSError:
                    time.sleep(0.2)
            else:
                raise AssertionError("the dashboard did not start")
            summaries = studies["study_summaries"]
            study = next(s for s in summaries if s["study_name"] == "by 'Kiln' \"é\"")
            detail = json.loads(get(f"/api/studies/{study['study_id']}?after=0"))
            assert len(detail["trials"]) >= 20 and "best_trial" in detail or detail["best_trials"], detail.keys()
            several = next(s for s in summaries if s["study_name"] == "pruned by Kiln")
            shown = json.loads(get(f"/api/studies/{several['study_id']}?after=0"))
            assert {t["state"] for t in shown["trials"]} >= {"Complete", "Pruned"} and shown["best_trials"], shown.keys()
            page = get(f"/dashboard/studies/{study['study_id']}")
            assert "<html" in page.lower() and "bundle" in page
        finally:
            server.terminate()
            server.wait()
        return f"optuna-dashboard shows {len(summaries)} studies and the page of Kiln's with {len(detail['trials'])} trials"

    def all(self):
        failed = 0
        for label, base in self.urls:
            steps = [("Optuna writes", self.optuna_writes, "a"), ("Kiln writes", self.kiln_writes, "a"), ("Kiln's notes", self.kiln_notes, "a"),
                     ("both at once", self.both_at_once, "b")]
            if label in ("SQLite", "PostgreSQL"):
                steps += [("many processes", self.sixteen, "c"), ("kill -9", self.killed, "d")]
            else:
                steps += [("kill -9", self.killed, "d")]
            if label == "SQLite":
                steps += [("Optuna's own file", self.own_file, "e"), ("dashboard", self.dashboard, "a")]
            for name, step, place in steps:
                try:
                    print(f"ok      {label}, {name}: {step(base.format(place))}", flush=True)
                except Exception as error:
                    failed += 1
                    stderr = getattr(error, "stderr", None)
                    print(f"FAILED  {label}, {name}: {type(error).__name__}: {error} {stderr or ''}", flush=True)
        return failed


def main():
    if sys.argv[1:2] == ["worker"]:
        return worker(sys.argv[2], int(sys.argv[3]))
    parser = argparse.ArgumentParser()
    parser.add_argument("--kiln", required=True)
    parser.add_argument("--many", required=True)
    parser.add_argument("--url", action="append", default=[], help="LABEL=URL with {} where the name of a database goes")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--kill-seconds", type=float, default=15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        urls = [("SQLite", f"sqlite:///{directory}/{{}}.db"), ("journal", f"journal:{directory}/{{}}.log")]
        urls += [tuple(url.split("=", 1)) for url in args.url]
        interop = Interop(args.kiln, args.many, urls, args.trials, args.processes, args.kill_seconds)
        sys.exit(1 if interop.all() else 0)


if __name__ == "__main__":
    main()
