//! `sqlite3` on a mounted archive whose process is killed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use xtask::error::{Error, Result};
use xtask::workspace::shown;

use super::place::{Place, Work, finish};
use crate::Random;

/// The journal modes. Both keep a commit that has returned, with every sync that there is.
const MODES: [&str; 2] = ["delete", "wal"];

/// Longest time from the last transaction before a kill to the kill, in microseconds.
const DELAY_MAX: u64 = 40_000;

/// Transactions between two kills, on average.
const PER_KILL: u64 = 25;

/// Longest text of a row in bytes.
const TEXT_MAX: u64 = 9_000;

const TABLES: &str = "create table rows (number integer primary key, text text);
create index texts on rows (substr(text, 1, 20), number);
create table counter (rows integer);
insert into counter values (0);";

/// The number of rows, the last one, the number in the counter, and the number of rows with a wrong text.
const COUNTS: &str = "select count(*), coalesce(max(number), 0), (select rows from counter),
    count(*) filter (where text is not {text}) from rows;";

/// Makes transactions in each journal mode.
pub(super) fn run(work: &Work<'_>) -> Result<String> {
    let transactions = if work.is_sample { 40 } else { 1000 };
    let mut done = Vec::new();
    for mode in MODES {
        let place = work.place(mode)?;
        let mut random = Random::new(work.seed);
        let database = Database { path: place.mount.join("database"), mode };
        let kills = database.work(&place, transactions, &mut random)?;
        done.push(format!("{mode} {transactions} transactions and {kills} kills"));
    }
    Ok(done.join(", "))
}

/// A database in a mounted archive.
struct Database {
    path: PathBuf,
    mode: &'static str,
}

impl Database {
    /// Makes transactions, and kills the process that serves the mount. Returns the number of kills.
    fn work(&self, place: &Place<'_>, transactions: u64, random: &mut Random) -> Result<u64> {
        place.with(|_| finish(sqlite(&self.path).arg(TABLES)).map(drop))?;
        let (mut kills, mut committed) = (0, 0);
        while committed < transactions {
            let mounted = place.mounted()?;
            let planned = committed + 1 + random.below(2 * PER_KILL);
            let delay = Duration::from_micros(random.below(DELAY_MAX));
            let mut session = Session::start(&self.path, self.mode)?;
            let (mut number, begun) = (committed, planned + 1000);
            thread::scope(|scope| {
                while number < begun && session.commit(number + 1)? && place.is_served() {
                    number += 1;
                    if number == planned {
                        let mounted = &mounted;
                        scope.spawn(move || {
                            thread::sleep(delay);
                            mounted.kill_process();
                        });
                    }
                }
                Ok::<(), Error>(())
            })?;
            session.end();
            mounted.kill()?;
            kills += 1;
            place.verify()?;
            committed = place.with(|_| self.check(number))?;
        }
        Ok(kills)
    }

    /// Checks the database after a kill, with this number of transactions that had returned. Returns how many there are.
    fn check(&self, returned: u64) -> Result<u64> {
        let found = finish(sqlite(&self.path).arg("pragma integrity_check"))?;
        if found.trim() != "ok" {
            return Err(Error::Output { what: "a broken database", found });
        }
        let counts = COUNTS.replace("{text}", &text_of("number"));
        let found = finish(sqlite(&self.path).arg(counts))?;
        for number in [returned, returned + 1] {
            if found.trim() == format!("{number}|{number}|{number}|0") {
                return Ok(number);
            }
        }
        let mode = self.mode;
        Err(Error::Fault(format!("{mode}: {returned} transactions had returned, found {found}")))
    }
}

fn sqlite(database: &Path) -> Command {
    let mut command = Command::new("sqlite3");
    command.args(["-batch", "-bail"]).arg(database);
    command
}

/// Returns the text of a row as an expression.
fn text_of(number: &str) -> String {
    format!("printf('%.*c', ({number} * 7919) % {TEXT_MAX}, char(65 + {number} % 26))")
}

/// A process that makes transactions.
struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn start(database: &Path, mode: &str) -> Result<Session> {
        let mut command = sqlite(database);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let started = command.spawn();
        let mut child =
            started.map_err(|source| Error::Start { command: shown(&command), source })?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Fault("sqlite3 has no input or output".to_owned()));
        };
        let mut session = Session { child, input, output: BufReader::new(output) };
        let settings = format!(
            "pragma journal_mode={mode}; pragma synchronous=extra; pragma wal_autocheckpoint=30;"
        );
        // It answers with the mode, and with the number of pages.
        let answers = [session.ask(&settings), session.line()];
        if answers != [Some(mode.to_owned()), Some("30".to_owned())] {
            return Err(Error::Fault(format!("sqlite3 has set {answers:?}")));
        }
        Ok(session)
    }

    /// Makes a transaction. Returns whether its commit has returned.
    fn commit(&mut self, number: u64) -> Result<bool> {
        let text = text_of(&number.to_string());
        let answer = self.ask(&format!(
            "begin; insert into rows values ({number}, {text}); update counter set rows = rows + 1; \
             commit; select {number};"
        ));
        match answer {
            Some(answer) if answer == number.to_string() => Ok(true),
            Some(answer) => Err(Error::Output { what: "another number", found: answer }),
            None => Ok(false),
        }
    }

    /// Passes a line on, and returns the next line of the answer; nothing if the process has ended.
    fn ask(&mut self, line: &str) -> Option<String> {
        writeln!(self.input, "{line}").ok()?;
        self.line()
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let length = self.output.read_line(&mut line).ok()?;
        (length > 0 && line.ends_with('\n')).then(|| line.trim_end().to_owned())
    }

    fn end(mut self) {
        drop(self.input);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
