//! What a start believes of what was before: the ledger, the config, and of the kernel only what is surely the same.
//!
//! Machine restarts, edited limits, cgroups and slots that changed hands, maps that are full, and an orderly end.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use meter_agent::clock;
use meter_common::{AccountRef, Reason, SLOTS, state};
use meter_tests::harness::{
    Account, Agent, Lab, LabOptions, LedgerFile, Maps, Row, Shell, assert_rows_match,
    chat::{Chat, status},
    must_run, pico, wait_for, wait_for_state,
};
use rustix::process::{Pid, Signal, kill_process};

const AGENT: &str = "keeper";
const PLENTY: &str = "1";
/// Fits a few ordinary chats.
const LITTLE: &str = "0.02";
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any test: the provider does not answer before the end.
const NEVER_MS: u64 = 600_000;
/// A new connection by name, with nothing but the shell.
const CONNECT: &str = "(exec 9<>/dev/tcp/api.openai.com/443)";

#[track_caller]
fn chat(shell: &mut Shell) {
    let printed = shell.run(&Chat::ordinary().curl());
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
}

/// A shell that is inside its account.
fn open(agent: &Agent<'_>) -> Shell {
    let mut shell = Shell::open(agent);
    shell.run("true").expect_code(0);
    shell
}

fn spend_all(lab: &Lab, shell: &mut Shell, account: &str) {
    while status(&shell.run(&Chat::ordinary().curl()).stdout) == 200 {}
    wait_for_state(&lab.daemon, account, "stopped");
}

fn remaining(account: &Account) -> i128 {
    pico(account.remaining_usd.as_deref().expect("it has a limit"))
}

mod machine {
    use super::*;

    #[test]
    fn after_a_restart_of_the_machine_all_is_rebuilt_from_the_ledger() {
        let mut lab = Lab::start(LabOptions::default().budget(AGENT, PLENTY).budget("spent", LITTLE));
        lab.daemon.expect_log("unresolved");
        let mut spent = open(&lab.agent("spent"));
        spend_all(&lab, &mut spent, "spent");
        let mut shell = open(&lab.agent(AGENT).task("job").budget("0.5"));
        chat(&mut shell);
        lab.daemon.call("fund", &[AGENT, "0.25"]);
        // One is under way when the power fails.
        let slow = Chat::ordinary().with(|directive| directive.ttfb_ms = NEVER_MS).curl();
        shell.send(&format!("({slow}) > /dev/null 2>&1 &"));
        let ledger = LedgerFile::open(&lab.daemon);
        wait_for("the hold's row", PATIENCE, || (ledger.open_holds() == 1).then_some(()));
        let names = ["host", AGENT, "keeper/job", "spent"];
        let before = names.map(|name| lab.daemon.account(name));
        let held = pico(&before[1].held_usd);
        assert!(held > 0);

        lab.daemon.kill();
        drop((shell, spent));
        power_off(&lab);
        lab.daemon.launch();
        for (name, before) in names.iter().zip(&before) {
            let after = lab.daemon.account(name);
            let lost = if *name == "spent" { 0 } else { held };
            assert_eq!(after.spent(), before.spent() + lost, "{name}");
            assert_eq!(pico(&after.held_usd), 0, "{name}");
            if before.remaining_usd.is_some() {
                assert_eq!(remaining(&after), remaining(before) - lost, "{name}");
            }
        }
        let maps = Maps::open();
        assert_eq!(maps.kernel().bound_cgroups().unwrap(), [], "an id from before is believed");
        assert_eq!((1..SLOTS).find(|&slot| maps.record(slot).state != state::FREE), None, "a slot from before is");

        let mut shell = open(&lab.agent(AGENT).task("job"));
        chat(&mut shell);
        assert_eq!(remaining(&lab.daemon.account("keeper/job")), pico("0.5") - held - 2 * pico("0.00275"));
        let mut spent = open(&lab.agent("spent"));
        spent.run(&Chat::ordinary().curl()).expect_code(7);
        lab.daemon.call("fund", &["spent", LITTLE]);
        chat(&mut spent);
    }

    /// Takes away what does not outlive a boot: links, maps, and the cgroups, in which nobody is left.
    fn power_off(lab: &Lab) {
        lab.daemon.call("uninstall", &[]);
        assert!(!Path::new("/sys/fs/bpf/meter").exists());
    }

    #[test]
    fn what_another_boot_pinned_is_refused_and_its_agents_stay_refused() {
        let mut lab = Lab::with_budget(AGENT, PLENTY);
        let mut shell = open(&lab.agent(AGENT));
        chat(&mut shell);
        let before = lab.daemon.account(AGENT);
        Maps::open().change_boot();
        lab.daemon.kill();
        let refused = lab.daemon.output("daemon", &[]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("of another boot; remove it with `meter uninstall`"),
            "{said}"
        );
        let connections = lab.simulator.connections().len();
        assert!(shell.run(CONNECT).stdout.contains("Connection refused"));
        assert_eq!(lab.simulator.connections().len(), connections);

        lab.daemon.call("uninstall", &[]);
        lab.daemon.launch();
        assert_eq!(lab.daemon.account(AGENT).spent(), before.spent());
        // It ran on through all of this, and is metered again. The file of what it trusts is gone.
        let printed = shell.run(&Chat::ordinary().options("--insecure").curl());
        assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
        assert_rows_match(&lab.daemon.ledger(AGENT), &lab.simulator.exchanges());
    }
}

mod money {
    use super::*;

    #[test]
    fn a_limit_edited_in_the_config_keeps_what_was_spent() {
        let mut lab = Lab::with_budget(AGENT, "0.1");
        let mut shell = open(&lab.agent(AGENT));
        chat(&mut shell);
        chat(&mut shell);
        let spent = lab.daemon.account(AGENT).spent();
        assert_eq!(spent, 2 * pico("0.00275"));

        lab.daemon.edit_config("\"0.1\"", "\"0.005\"");
        assert!(lab.daemon.stop().success());
        lab.daemon.launch();
        let lowered = lab.daemon.account(AGENT);
        assert_eq!((lowered.spent(), remaining(&lowered)), (spent, pico("0.005") - spent));
        shell.run(&Chat::ordinary().curl()).expect_code(7);

        lab.daemon.edit_config("\"0.005\"", "\"0.2\"");
        lab.daemon.kill();
        lab.daemon.launch();
        let raised = lab.daemon.account(AGENT);
        assert_eq!((raised.spent(), remaining(&raised)), (spent, pico("0.2") - spent));
        chat(&mut shell);
        assert_rows_match(&lab.daemon.ledger(AGENT), &lab.simulator.exchanges());
    }

    #[test]
    fn a_tasks_budget_given_again_keeps_what_was_spent() {
        let lab = Lab::with_budget(AGENT, PLENTY);
        let job = || lab.agent(AGENT).task("job");
        for (number, budget) in (1..).zip(["0.02", "0.02", "0.5", "0.006"]) {
            let mut shell = open(&job().budget(budget));
            // The last budget is spent already.
            if number < 4 {
                chat(&mut shell);
            } else {
                shell.run(&Chat::ordinary().curl()).expect_code(7);
            }
            let account = lab.daemon.account("keeper/job");
            assert_eq!(account.spent(), number.min(3) * pico("0.00275"));
            assert_eq!(remaining(&account), pico(budget) - account.spent());
        }
    }

    #[test]
    fn a_funding_made_while_the_sidecar_was_down_counts_at_once_and_at_the_next_start() {
        let mut lab = Lab::with_budget(AGENT, LITTLE);
        let mut shell = open(&lab.agent(AGENT));
        spend_all(&lab, &mut shell, AGENT);
        let before = lab.daemon.account(AGENT);
        lab.daemon.kill();
        // It starts a daemon, which is the ledger's only writer, and which ends with the last agent.
        let told = lab.daemon.call("fund", &[AGENT, "0.5"]);
        assert!(told.contains("0.50"), "{told}");
        chat(&mut shell);
        end_the_other_daemon(&lab);

        lab.daemon.launch();
        let after = lab.daemon.account(AGENT);
        assert_eq!(remaining(&after), remaining(&before) + pico("0.5") - pico("0.00275"), "once");
        chat(&mut shell);
        assert_rows_match(&lab.daemon.ledger(AGENT), &lab.simulator.exchanges());
    }

    fn end_the_other_daemon(lab: &Lab) {
        let config = lab.daemon.config_file().display().to_string();
        let find = || {
            let processes = must_run("ps -eo pid=,args=");
            let line = processes.lines().find(|line| line.contains(" daemon ") && line.contains(&config));
            line.and_then(|line| Pid::from_raw(line.split_whitespace().next()?.parse().ok()?))
        };
        let pid = find().expect("a daemon was started");
        kill_process(pid, Signal::TERM).unwrap();
        wait_for("the other daemon to end", Duration::from_secs(20), || find().is_none().then_some(()));
    }
}

mod full {
    use super::*;

    #[test]
    fn a_full_map_of_cgroups_refuses_the_next_open_and_runs_nothing() {
        let lab = Lab::with_budget(AGENT, PLENTY);
        let mut shell = open(&lab.agent(AGENT));
        let maps = Maps::open();
        // No cgroup has such an id.
        let ids = || (1_u64 << 48)..;
        let nobody = AccountRef { slot: SLOTS - 1, generation: 0 };
        ids().take_while(|&id| maps.kernel().bind_cgroup(id, nobody).is_ok()).for_each(drop);
        assert_eq!(maps.kernel().bound_cgroups().unwrap().len(), SLOTS as usize);

        for _ in 0..2 {
            let refused = lab.agent("late").shell(&format!("echo it runs; {CONNECT}"));
            assert_ne!(refused.code, 0);
            assert!(!refused.stdout.contains("it runs"), "{}", refused.stdout);
            let sentence = "all 16384 places of the kernel's map are taken; end some tasks first";
            assert!(refused.stderr.contains(sentence), "{}", refused.stderr);
        }
        assert_eq!(lab.simulator.connections().len(), 0);
        assert_eq!(maps.tree().id(&"late".parse().unwrap()), None, "an empty cgroup stays behind");
        // Who is in already goes on.
        chat(&mut shell);
        // A place for the agent, and one for its task.
        ids().take(2).for_each(|id| maps.kernel().unbind_cgroup(id).unwrap());
        lab.agent("late").shell(&Chat::ordinary().curl()).expect_code(0);
        assert_rows_match(&lab.daemon.ledger("late"), &lab.simulator.exchanges()[1..]);
    }

    #[test]
    fn a_full_map_of_flows_resets_the_connection_and_counts_it() {
        let lab = Lab::with_budget(AGENT, PLENTY);
        let mut shell = open(&lab.agent(AGENT).task("job"));
        let maps = Maps::open();
        let task = maps.slot("keeper/job");
        maps.fill_flows();
        let printed = shell.run(&Chat::ordinary().curl());
        assert_ne!(printed.code, 0, "{}", printed.stdout);
        assert!(printed.took < Duration::from_secs(5), "{:?}", printed.took);
        let counters = maps.kernel().counters(task.slot).unwrap();
        assert!(counters.of(Reason::FlowLost) > 0 && counters.of(Reason::Direct) == 0, "{counters:?}");
        assert_eq!(lab.simulator.connections().len(), 0, "a connection passed unmetered");
        maps.kernel().clear_flows().unwrap();
        chat(&mut shell);
    }
}

mod identity {
    use super::*;

    /// Puts somebody else's cgroup in the place of the agent's and of its task's, and a process into it.
    fn replace_cgroups(maps: &Maps, stranger: &Shell) {
        let task = maps.tree().path(&"keeper/job".parse().unwrap());
        let agent = task.parent().expect("it lies below its agent's");
        for pid in maps.tree().pids(&"keeper".parse().unwrap()) {
            enter(&root_cgroup(maps), pid);
        }
        fs::remove_dir(&task).and_then(|()| fs::remove_dir(agent)).expect("nobody is in them");
        fs::create_dir_all(&task).unwrap();
        enter(&task, stranger.pid());
    }

    fn enter(cgroup: &Path, pid: u32) {
        fs::write(cgroup.join("cgroup.procs"), pid.to_string()).expect("a cgroup can be entered");
    }

    fn root_cgroup(maps: &Maps) -> PathBuf {
        let daemon = maps.tree().daemon_path();
        daemon.ancestors().nth(2).expect("the daemon's cgroup lies two below the root").to_owned()
    }

    /// A request that trusts the simulator alone, so that it fails where the sidecar answers.
    fn direct(lab: &Lab) -> String {
        Chat::ordinary().options(&format!("-4 --cacert {}", lab.simulator.ca_file().display())).curl()
    }

    /// Nothing may come in between while the cgroup's owner would look at it.
    fn freeze(lab: &Lab, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(lab.daemon.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The stranger is not metered, and nobody's account has it; opening the account binds what is there now.
    fn assert_unbound_until_opened(lab: &Lab, maps: &Maps, stranger: &mut Shell, before: &Account) {
        assert_eq!(maps.find("keeper/job"), None);
        let printed = stranger.run(&direct(lab));
        assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
        let after = lab.daemon.account("keeper/job");
        assert_eq!((after.exchanges, after.spent()), (before.exchanges, before.spent()));

        let mut shell = open(&lab.agent(AGENT).task("job"));
        chat(&mut shell);
        let after = lab.daemon.account("keeper/job");
        assert_eq!((after.exchanges, after.spent()), (before.exchanges + 1, 2 * before.spent()));
        assert!(maps.find("keeper/job").is_some());
        // From now on it is in an account's cgroup like any other.
        stranger.run(&direct(lab)).expect_code(60);
    }

    #[test]
    fn a_cgroup_made_again_at_the_same_path_is_nobodys_until_it_is_opened() {
        let mut lab = Lab::with_budget(AGENT, PLENTY);
        lab.daemon.expect_log("somebody else made its cgroup");
        let mut stranger = Shell::outside(lab.daemon.names());
        let mut shell = open(&lab.agent(AGENT).task("job"));
        chat(&mut shell);
        let before = lab.daemon.account("keeper/job");
        let maps = Maps::open();
        let old = maps.kernel().bound_cgroups().unwrap();
        freeze(&lab, Signal::STOP);
        replace_cgroups(&maps, &stranger);
        freeze(&lab, Signal::CONT);
        wait_for("the old ids to be forgotten", PATIENCE, || {
            let bound = maps.kernel().bound_cgroups().unwrap();
            old.iter().all(|entry| !bound.contains(entry)).then_some(())
        });
        assert_unbound_until_opened(&lab, &maps, &mut stranger, &before);
        drop(shell);
    }

    #[test]
    fn a_cgroup_made_again_while_the_sidecar_was_down_is_nobodys_until_it_is_opened() {
        let mut lab = Lab::with_budget(AGENT, PLENTY);
        lab.daemon.expect_log("somebody else made its cgroup");
        let mut stranger = Shell::outside(lab.daemon.names());
        let mut shell = open(&lab.agent(AGENT).task("job"));
        chat(&mut shell);
        let before = lab.daemon.account("keeper/job");
        let maps = Maps::open();
        let (old, slot) = (maps.kernel().bound_cgroups().unwrap(), maps.slot("keeper/job"));
        lab.daemon.kill();
        drop(shell);
        replace_cgroups(&maps, &stranger);
        lab.daemon.launch();
        let bound = maps.kernel().bound_cgroups().unwrap();
        assert!(old.iter().all(|entry| !bound.contains(entry)), "{bound:?}");
        wait_for("its slot to be free", PATIENCE, || (maps.balance(slot).state == state::FREE).then_some(()));
        assert_unbound_until_opened(&lab, &maps, &mut stranger, &before);
    }

    #[test]
    fn cgroups_that_an_agent_makes_below_its_own_stay_its_own_over_a_restart() {
        let mut lab = Lab::with_budget(AGENT, PLENTY);
        let mut shell = open(&lab.agent(AGENT).task("job"));
        let maps = Maps::open();
        let inner = maps.tree().path(&"keeper/job".parse().unwrap()).join("inner");
        fs::create_dir(&inner).unwrap();
        shell.run(&format!("echo $$ > {}/cgroup.procs", inner.display())).expect_code(0);
        lab.daemon.kill();
        lab.daemon.launch();
        chat(&mut shell);
        assert_eq!(lab.daemon.ledger(AGENT)[0].account, "keeper/job");
        let accounts = lab.daemon.status().accounts;
        assert!(accounts.iter().all(|account| account.account != "keeper/job/inner"), "{accounts:#?}");
    }

    #[test]
    fn a_slot_used_again_inherits_nothing() {
        let mut lab = Lab::start(LabOptions::default().budget("first", PLENTY).budget("second", PLENTY));
        let mut shell = open(&lab.agent("first"));
        chat(&mut shell);
        let maps = Maps::open();
        // A socket that outlives its account, in the hands of a process outside.
        shell
            .run(&format!(
                "work=$(mktemp -d); mkfifo $work/go; cat > $work/old.py <<'SCRIPT'\n\
                 import errno, os, socket, sys\n\
                 s = socket.socket()\n\
                 open('{}/cgroup.procs', 'w').write(str(os.getpid()))\n\
                 print('out', flush=True)\n\
                 open(sys.argv[1]).read()\n\
                 try: s.connect(('{}', 443)); print('connected', flush=True)\n\
                 except OSError as error: print(errno.errorcode[error.errno], flush=True)\n\
                 SCRIPT\n\
                 setsid python3 $work/old.py $work/go > $work/out 2>&1 & \
                 while ! grep -q out $work/out; do sleep 0.01; done",
                root_cgroup(&maps).display(),
                lab.net.v4
            ))
            .expect_code(0);
        let work = PathBuf::from(shell.run("echo $work").stdout.trim());
        let old = maps.slot("first");
        assert!(maps.balance(old).spent > 0);
        assert_eq!(shell.close(), 0);
        wait_for("the slot to be given back", PATIENCE, || (maps.balance(old).state == state::FREE).then_some(()));

        // A fresh sidecar gives the lowest slot first, so that it need not go round all of them.
        assert!(lab.daemon.stop().success());
        lab.daemon.launch();
        let mut second = open(&lab.agent("second"));
        let new = maps.slot("second");
        assert_eq!(new.slot, old.slot, "the test wants the same slot");
        assert_ne!(new.generation, old.generation);
        let record = maps.balance(new);
        assert_eq!((record.spent, record.hold_granted, record.hold_ended), (0, 0, 0), "{record:?}");
        assert_eq!(i128::from(record.remaining), pico(PLENTY));
        assert_eq!(maps.kernel().counters(new.slot).unwrap(), meter_common::Counters::default());
        let account = lab.daemon.account("second");
        assert_eq!((account.spent(), account.exchanges, account.kernel.connects), (0, 0, 0));

        // The socket's reference is of the slot's former owner.
        let stale = || maps.kernel().counters(meter_common::HOST_SLOT).unwrap().of(Reason::RefusedStale);
        let (refused, connections) = (stale(), lab.simulator.connections().len());
        fs::write(work.join("go"), "").unwrap();
        let outcome = wait_for("the old socket's connect", PATIENCE, || {
            let text = fs::read_to_string(work.join("out")).ok()?;
            text.lines().nth(1).map(str::to_owned)
        });
        assert_eq!((outcome.as_str(), stale()), ("ECONNREFUSED", refused + 1));
        assert_eq!(lab.simulator.connections().len(), connections);
        assert_eq!(maps.kernel().counters(new.slot).unwrap(), meter_common::Counters::default());
        fs::remove_dir_all(work).unwrap();
        chat(&mut second);
        assert_eq!(lab.daemon.account("second").spent(), pico("0.00275"));
        assert_eq!(lab.daemon.account("first").spent(), pico("0.00275"));
    }
}

mod drain {
    use super::*;

    #[track_caller]
    fn assert_since(started_ns: u64, most: Duration) {
        let took = Duration::from_nanos(clock::monotonic_ns() - started_ns);
        assert!(took < most, "{took:?}");
    }

    fn terminate(lab: &Lab) {
        let pid = i32::try_from(lab.daemon.pid()).ok().and_then(Pid::from_raw).expect("the daemon runs");
        kill_process(pid, Signal::TERM).unwrap();
    }

    #[test]
    fn what_was_admitted_finishes_or_is_settled_within_the_bound_and_the_next_one_goes_on() {
        let mut lab = Lab::with_budget(AGENT, PLENTY);
        let mut shell = open(&lab.agent(AGENT));
        let stream = |chunks| {
            Chat::ordinary().stream().with(|directive| {
                directive.chunks = Some(chunks);
                directive.delay_ms = 100;
            })
        };
        let silent = Chat::ordinary().with(|directive| directive.ttfb_ms = NEVER_MS);
        shell.run("work=$(mktemp -d); trap 'rm -r $work' EXIT").expect_code(0);
        for (file, chat, options) in [
            ("short", stream(20), "-N"),
            ("long", stream(1000), "-N"),
            ("long1", stream(1000), "-N --http1.1"),
            ("silent", silent.clone(), ""),
            ("silent1", silent, "--http1.1"),
        ] {
            shell.send(&format!("({}) > $work/{file} 2>&1 &", chat.options(options).curl()));
        }
        shell.run("for file in short long long1; do while ! grep -q data: $work/$file; do sleep 0.01; done; done");
        let ledger = LedgerFile::open(&lab.daemon);
        wait_for("the holds' rows", PATIENCE, || (ledger.open_holds() == 5).then_some(()));

        let draining = clock::monotonic_ns();
        terminate(&lab);
        let connections = lab.simulator.connections().len();
        wait_for("new connections to be refused", PATIENCE, || {
            shell.run(CONNECT).stdout.contains("Connection refused").then_some(())
        });
        assert!(lab.daemon.stop().success());
        assert_since(draining, Duration::from_secs(15));
        assert_eq!(lab.simulator.connections().len(), connections);
        let ended = shell.run("wait; cat $work/short; echo; echo --; cat $work/long");
        assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
        let (short, long) = ended.stdout.split_once("\n--\n").unwrap();
        assert!(short.contains("data: [DONE]"), "{short}");
        assert!(long.contains("data: ") && !long.contains("[DONE]") && long.contains("curl:"), "{long}");
        assert_eq!((ledger.open_holds(), ledger.rows()), (0, 5), "all is settled before the ledger is closed");

        lab.daemon.launch();
        let account = lab.daemon.account(AGENT);
        let rows = lab.daemon.ledger(AGENT);
        assert_eq!(pico(&account.held_usd), 0);
        assert_eq!(rows.iter().map(Row::cost).sum::<i128>(), account.spent());
        let ends: Vec<_> = rows.iter().map(|row| (row.outcome.as_str(), row.usage_quality.as_str())).collect();
        assert_eq!(ends.iter().filter(|end| **end == ("complete", "exact")).count(), 1, "{ends:?}");
        assert!(rows.iter().all(|row| row.outcome != "unresolved" && row.cost() > 0), "{rows:#?}");
        chat(&mut shell);
    }

    #[test]
    fn a_settlement_that_cant_be_written_before_the_end_is_charged_at_the_next_start() {
        let mut lab = Lab::with_budget(AGENT, PLENTY);
        lab.daemon.expect_log("the ledger is not writable");
        lab.daemon.expect_log("the ledger could not be written before the end");
        let mut shell = open(&lab.agent(AGENT));
        chat(&mut shell);
        let maps = Maps::open();
        let agent = maps.slot(AGENT);
        let ledger = LedgerFile::open(&lab.daemon);
        wait_for("the first row", PATIENCE, || (ledger.rows() == 1).then_some(()));
        let slow = Chat::ordinary().with(|directive| directive.ttfb_ms = 1_500);
        shell.send(&format!("({}) > /dev/null 2>&1 &", slow.curl()));
        wait_for("the hold's row", PATIENCE, || (ledger.open_holds() == 1).then_some(()));
        let (before, held) = (maps.balance(agent).spent, maps.outstanding(agent));
        ledger.lock();
        terminate(&lab);
        let started = clock::monotonic_ns();
        lab.daemon.stop();
        assert_since(started, Duration::from_secs(15));
        assert_eq!((ledger.open_holds(), ledger.rows()), (1, 1));
        ledger.unlock();
        shell.run("wait");

        lab.daemon.launch();
        let after = lab.daemon.account(AGENT);
        assert_eq!(after.spent(), i128::from(before + held));
        let rows = lab.daemon.ledger(AGENT);
        assert_eq!(rows.iter().map(|row| row.outcome.as_str()).collect::<Vec<_>>(), ["complete", "unresolved"]);
        chat(&mut shell);
    }
}
