//! Faults around a PostgreSQL store: workers and servers that die, sleep, are parted or run out of
//! room lose nothing and double nothing. Each fault comes once, or `TRIBUNAL_CHAOS` times:
//! `make chaos` asks for more and keeps the table.

mod place;
mod scene;

use std::sync::mpsc;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tribunal_e2e::{
    Place, PostgresServer, Proxy, Reply, Running, TestServer, assert_exit, describe, wait_until,
};

use crate::{
    place::{Clock, SmallDisk},
    scene::{
        CONCURRENCY, Judge, LEAVES, LONG_LEASE_S, SHORT_LEASE_S, Scene, WORKERS, finish, times,
        wait_long,
    },
};

/// Worker processes known to be dead that one leaf may have cost before it is given up.
const MAX_DEAD_WORKERS: u64 = 10;

#[test]
fn workers_that_are_killed_lose_only_what_was_in_flight() {
    const KILLS: u64 = 4;
    let Some(scene) = Scene::new(LONG_LEASE_S) else { return };
    let mut rng = StdRng::seed_from_u64(1);
    scene.repeat("SIGKILL of a worker", |scene| {
        let before = scene.sim.requests();
        let mut workers = scene.workers(WORKERS);
        for _ in 0..KILLS {
            scene.asked(rng.random_range(1..25), &mut workers);
            let at = rng.random_range(0..workers.len());
            let _ = workers.swap_remove(at).kill();
            workers.push(scene.worker());
        }
        finish(workers);
        let lost = scene.sim.settled_requests() - before - LEAVES;
        assert!(lost <= KILLS * CONCURRENCY, "{lost} calls lost by {KILLS} kills");
        KILLS
    });
}

#[test]
fn a_server_that_crashes_is_waited_for() {
    const CRASHES: u64 = 2;
    let Some(scene) = Scene::new(LONG_LEASE_S) else { return };
    scene.repeat("SIGKILL of the server", |scene| {
        let mut workers = scene.workers(WORKERS);
        for _ in 0..CRASHES {
            scene.asked(20, &mut workers);
            let before = scene.done();
            scene.server.crash();
            scene.server.restart();
            assert!(scene.done() >= before, "what was acknowledged is stored");
        }
        finish(workers);
        CRASHES
    });
}

#[test]
fn a_worker_that_sleeps_beyond_its_leases_changes_nothing() {
    let Some(scene) = Scene::new(SHORT_LEASE_S) else { return };
    scene.repeat("SIGSTOP beyond the lease", |scene| {
        let mut sleeper = scene.workers(1);
        scene.asked(CONCURRENCY, &mut sleeper);
        sleeper[0].freeze();
        finish(scene.workers(WORKERS - 1));
        assert_eq!(scene.done(), LEAVES);
        sleeper[0].wake();
        finish(sleeper);
        1
    });
}

#[test]
fn a_worker_that_wakes_when_its_leases_are_reaped_changes_nothing() {
    let Some(scene) = Scene::new(SHORT_LEASE_S) else { return };
    scene.repeat("SIGCONT while leases are reaped", |scene| {
        let mut sleeper = scene.workers(1);
        scene.asked(CONCURRENCY, &mut sleeper);
        sleeper[0].freeze();
        let held = "SELECT count(*) FROM tasks WHERE state = 2";
        let mut others = scene.workers(1);
        // The other one has everything else done, and takes these as soon as they end.
        wait_long("the leases are all that is left", || {
            let open = "SELECT count(*) FROM tasks WHERE state = 0";
            (scene.sql(open) == "0" && scene.sql(held) != "0") || others[0].has_ended()
        });
        sleeper[0].wake();
        finish(sleeper);
        finish(others);
        1
    });
}

#[test]
fn commits_that_nobody_hears_of_are_not_done_twice() {
    const LOST: u64 = 8;
    let Some(scene) = Scene::new(SHORT_LEASE_S) else { return };
    scene.repeat("answer to a commit dropped", |scene| {
        let proxy = Proxy::start(scene.server.port());
        proxy.lose_commits(7, LOST);
        finish((0..WORKERS).map(|_| scene.by(proxy.port(), scene.work())).collect());
        assert!(proxy.lost() > 0, "no commit was lost");
        proxy.lost()
    });
}

#[test]
fn a_worker_that_reaches_the_judge_alone_is_fenced() {
    let Some(scene) = Scene::new(SHORT_LEASE_S) else { return };
    scene.repeat("partition between a worker and the store", |scene| {
        let proxy = Proxy::start(scene.server.port());
        let mut parted = [scene.by(proxy.port(), scene.work())];
        scene.asked(CONCURRENCY, &mut parted);
        proxy.part(true);
        finish(scene.workers(WORKERS - 1));
        assert_eq!(scene.done(), LEAVES);
        proxy.part(false);
        finish(parted.into());
        1
    });
}

#[test]
fn a_disk_that_fills_up_under_the_server_loses_nothing() {
    let Some(disk) = SmallDisk::new(96) else { return };
    let settings = ["fsync=on", "max_wal_size=32MB", "min_wal_size=2MB"];
    let Some(server) = PostgresServer::start_in(disk.place(), &settings) else { return };
    let scene = Scene::on(server, Judge::Sim, 20);
    scene.repeat("disk full under the server", |scene| {
        let mut workers = scene.workers(WORKERS);
        scene.asked(20, &mut workers);
        let before = scene.server.log().matches("No space left on device").count();
        disk.fill();
        wait_until("the server meets the full disk", || {
            scene.server.log().matches("No space left on device").count() > before
                || workers.iter_mut().all(Running::has_ended)
        });
        disk.free();
        wait_until("the server is there", || {
            if scene.server.has_ended() {
                scene.server.restart();
            }
            scene.try_sql("SELECT 1").is_ok()
        });
        // It takes over from those that ended without a word.
        workers.push(scene.worker());
        for worker in workers {
            let ended = worker.finish();
            let said = String::from_utf8_lossy(&ended.stderr);
            match ended.status.code() {
                Some(0) => {}
                Some(2) => {
                    assert!(said.contains("is full") && said.contains("Free space"), "{said}");
                }
                _ => panic!("{}", describe(&ended)),
            }
        }
        1
    });
}

#[test]
fn a_server_whose_clock_steps_takes_and_gives_no_verdict_twice() {
    let Some(clock) = Clock::new() else { return };
    let place = Place { env: clock.env(), ..Place::default() };
    let Some(server) = PostgresServer::start_in(place, &["fsync=on"]) else { return };
    let scene = Scene::on(server, Judge::Sim, 60);
    // All leases end at once; then they last an hour longer than they should.
    let steps = [3600, 0, -3600];
    scene.repeat("clock of the server steps by an hour", |scene| {
        let mut workers = scene.workers(WORKERS);
        for seconds in steps {
            scene.asked(15, &mut workers);
            clock.step(seconds);
            if seconds == steps[0] {
                // As tasks do whose calls fail meanwhile: nobody may wait for them until the clock that is
                // set back has caught up.
                let wait = "UPDATE tasks SET state = 1, waits_from = now.ms, run_at = now.ms + 5000 \
                            FROM (SELECT (extract(epoch FROM now()) * 1000)::bigint AS ms) now \
                            WHERE state = 0 AND position % 4 = 0";
                scene.unclaimed(wait);
            }
        }
        finish(workers);
        let shown: i64 =
            scene.sql("SELECT extract(epoch FROM now())::bigint").parse().expect("a time");
        assert!((now() - 3600 - shown).abs() < 600, "the server looks at that clock");
        clock.step(0);
        steps.len() as u64
    });
}

#[test]
fn workers_whose_clocks_step_keep_their_leases() {
    let Some(clock) = Clock::new() else { return };
    let Some(scene) = Scene::new(SHORT_LEASE_S) else { return };
    let steps = [86_400, -86_400, 0];
    scene.repeat("clock of the workers steps by a day", |scene| {
        let worker = || {
            let mut work = scene.work();
            work.envs(clock.env());
            scene.start(work)
        };
        let mut workers: Vec<Running> = (0..WORKERS).map(|_| worker()).collect();
        for seconds in steps {
            scene.asked(15, &mut workers);
            clock.step(seconds);
        }
        finish(workers);
        steps.len() as u64
    });
}

#[test]
fn a_task_that_is_handed_out_twice_has_one_verdict() {
    const DELIVERIES: u64 = 3;
    let Some(scene) = Scene::new(LONG_LEASE_S) else { return };
    scene.repeat("task handed out twice", |scene| {
        let mut twice = 0;
        let mut workers = scene.workers(WORKERS);
        for _ in 0..DELIVERIES {
            scene.asked(15, &mut workers);
            // As a queue without leases does: who holds it is forgotten.
            let forget = "WITH forgotten AS (UPDATE tasks SET state = 0, lease = NULL, \
                          lease_end = NULL, worker = NULL WHERE state = 2 RETURNING 1) \
                          SELECT count(*) FROM forgotten";
            twice += scene.unclaimed(forget).parse::<u64>().expect("a count");
        }
        finish(workers);
        assert!(twice > 0, "nothing was in flight");
        twice
    });
}

#[test]
fn a_leaf_that_kills_its_workers_is_given_up_alone() {
    for time in 1..=times() {
        let (killing, killed) = mpsc::channel();
        let judge = TestServer::start(move |request| {
            // The last of its group: the others are shown what stands before them.
            if !request.body.contains("The function transform_9 scales") {
                return Reply::verdict(1);
            }
            let _ = killing.send(());
            // The worker will not hear it: it is dead by then.
            std::thread::park();
            Reply::verdict(0)
        });
        let Some(server) = PostgresServer::start(&["fsync=on"]) else { return };
        let scene = Scene::on(server, Judge::At(judge.base_url()), LONG_LEASE_S);
        let mut deaths = 0;
        loop {
            let mut worker = scene.worker();
            let asked = || killed.try_recv().is_ok();
            let mut asks = false;
            wait_until("the worker ends, or asks about that leaf", || {
                asks = asks || asked();
                asks || worker.has_ended()
            });
            if !asks {
                assert_exit(&worker.finish(), 0);
                break;
            }
            let _ = worker.kill();
            deaths += 1;
        }
        assert_eq!(deaths, MAX_DEAD_WORKERS, "it cost as many workers as it may");
        scene.check("leaf that kills its workers", 1);
        let dead = scene.sql("SELECT class FROM tasks WHERE state = 4");
        assert_eq!(dead, "lost_lease", "it says why");
        if time == times() {
            scene.row("leaf that kills its workers", deaths * times());
        }
    }
}

#[test]
fn a_reader_that_stands_still_holds_nobody_up() {
    let Some(scene) = Scene::new(LONG_LEASE_S) else { return };
    scene.repeat("collector that stands still", |scene| {
        let mut workers = scene.workers(WORKERS);
        scene.asked(LEAVES / 2, &mut workers);
        let proxy = Proxy::start(scene.server.port());
        let run = scene.workspace.status()["run"].as_str().expect("an id").to_owned();
        // Somewhere in its reading.
        proxy.part_behind(6);
        let collect = ["collect", &run, "--json", "--out", "slow", "--quiet"];
        let mut reader = scene.by(proxy.port(), scene.workspace.command(&collect));
        wait_until("it reads", || proxy.is_parted() || reader.has_ended());
        assert!(!reader.has_ended(), "it was done before it stood still: {}", reader.stderr());
        finish(workers);
        assert_eq!(scene.done(), LEAVES);
        proxy.part(false);
        // What it saw was a run under way.
        let collected = reader.finish();
        let code = collected.status.code();
        assert!(matches!(code, Some(0 | 3)), "{}", describe(&collected));
        1
    });
}

#[test]
fn a_snapshot_that_is_held_stops_nobody() {
    let Some(scene) = Scene::new(LONG_LEASE_S) else { return };
    scene.repeat("snapshot held", |scene| {
        let ended = std::thread::scope(|threads| {
            let hold = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class; \
                        SELECT pg_sleep(600)";
            let holder = threads.spawn(|| scene.server.try_sql(hold));
            let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            wait_until("the snapshot is held", || scene.server.sql(sleeps) == "1");
            finish(scene.workers(WORKERS));
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE wait_event = 'PgSleep'";
            let ended = scene.server.sql(end);
            assert!(holder.join().expect("it ends").is_err(), "it was ended from outside");
            ended
        });
        assert_eq!(ended, "t", "the snapshot was held all the while");
        1
    });
}

/// Seconds since the Unix epoch.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("later than 1970").as_secs().cast_signed()
}
