//! What releases cost on sandboxes: 6,000 files and 250 MB, the real binary, judged against `cp -a` and `cat` in the
//! same run.
//!
//! `cargo bench --bench sandboxes [-- ROUNDS SANDBOXES]`. Ratios count, not seconds: machines differ, and the rounds of
//! one run are interleaved.

use anyhow::{Context, Result, ensure};
use ibexdeploy::content::{HashCache, TreeIndex};
use ibexdeploy::paths::PathPatterns;
use ibexdeploy::rehearsal::{KitShape, make_kits};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Figures of one kind, a value a round.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, Vec<f64>>);

impl Figures {
    fn add(&mut self, name: &'static str, value: f64) {
        self.0.entry(name).or_default().push(value);
    }

    fn show(&self) -> Result<()> {
        let mut out = std::io::stdout();
        writeln!(out, "\n{:<58} {:>9} {:>9} {:>9}", "figure", "least", "median", "most")?;
        for (name, values) in &self.0 {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
            writeln!(out, "{name:<58} {first:>9.3} {:>9.3} {last:>9.3}", sorted[sorted.len() / 2])?;
        }
        Ok(())
    }
}

struct Bench {
    folder: PathBuf,
    shape: KitShape,
    names: Vec<String>,
}

/// How a run of the binary ended.
struct Run {
    seconds: f64,
    events: Vec<Value>,
}

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (rounds, sandboxes) = (numbers.first().copied().unwrap_or(3), numbers.get(1).copied().unwrap_or(4));
    let bench = Bench::new(sandboxes)?;
    let mut figures = Figures::default();
    for round in 1..=rounds {
        writeln!(std::io::stdout(), "round {round} of {rounds}: {sandboxes} sandboxes, 6,000 files, 250 MB")?;
        bench.releases(&mut figures)?;
        bench.hashing(&mut figures)?;
        bench.steps(&mut figures)?;
    }
    figures.show()
}

impl Bench {
    fn new(sandboxes: usize) -> Result<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench");
        let shape = KitShape::large();
        std::fs::create_dir_all(folder.join("kits"))?;
        writeln!(std::io::stdout(), "making kits of 6,000 files and 250 MB in {}", folder.display())?;
        make_kits(&folder.join("all"), &shape)?;
        let all = ["LARMOR", "ZOOM", "LOQ", "LET", "IMAT", "EMU", "GEM", "MERLIN", "WISH", "POLREF"];
        let names = all.iter().take(sandboxes).map(|n| format!("NDX{n}")).collect();
        Ok(Self { folder, shape, names })
    }

    /// First install and update of all sandboxes, and `cp -a` of the same trees.
    fn releases(&self, figures: &mut Figures) -> Result<()> {
        let count = self.names.len() as f64;
        for part in ["sandboxes", "copies", "kits", "state"] {
            remove(&self.folder.join(part))?;
        }
        std::fs::create_dir_all(self.folder.join("kits"))?;
        std::fs::create_dir_all(self.folder.join("copies"))?;
        self.offer(self.shape.older())?;
        let first = self.release()?;
        let began = Instant::now();
        for name in &self.names {
            let target = self.folder.join("copies").join(name);
            finish(Command::new("cp").arg("-a").arg(self.folder.join("all").join(self.shape.older())).arg(target))?;
        }
        let copied = began.elapsed().as_secs_f64();
        self.offer(self.shape.newer())?;
        let update = self.release()?;
        figures.add("first install, seconds a sandbox", first.seconds / count);
        figures.add("first install / cp -a of the kit", first.seconds / copied);
        figures.add("update of 2 %, seconds a sandbox", update.seconds / count);
        figures.add("update of 2 % / cp -a of the kit", update.seconds / copied);
        figures.add("update: bytes staged / bytes changed", self.staged_share(&update)?);
        figures.add("first install: outage apart from the site's scripts, s", self.outage(&first));
        figures.add("update: outage apart from the site's scripts, s", self.outage(&update));
        Ok(())
    }

    /// Puts a release into the folder of kits.
    fn offer(&self, version: &str) -> Result<()> {
        finish(Command::new("cp").arg("-a").arg(self.folder.join("all").join(version)).arg(self.folder.join("kits")))
    }

    fn release(&self) -> Result<Run> {
        let mut arguments = vec!["release"];
        arguments.extend(self.names.iter().map(String::as_str));
        self.run(&arguments, &[])
    }

    fn run(&self, arguments: &[&str], more: &[&str]) -> Result<Run> {
        let began = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"))
            .args(arguments)
            .args(more)
            .args(["--yes", "--output", "json"])
            .arg(format!("--rehearse={}", self.folder.join("sandboxes").display()))
            .arg("--kits")
            .arg(self.folder.join("kits"))
            .arg("--state")
            .arg(self.folder.join("state"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .context("the binary")?;
        let seconds = began.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{arguments:?}: {}\n{text}", output.status);
        Ok(Run { seconds, events: text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect() })
    }

    /// Fetched bytes of one instrument over the bytes of the files that differ between the releases.
    fn staged_share(&self, update: &Run) -> Result<f64> {
        let (old, new) = (self.index(self.shape.older())?, self.index(self.shape.newer())?);
        let changed: u64 = new
            .entries
            .iter()
            .filter(|(path, e)| old.entries.get(*path).is_none_or(|o| o.hash != e.hash))
            .map(|(_, e)| e.size)
            .sum();
        let staged = update.events.iter().find(|e| e["event"] == "staged").context("a staged event")?;
        Ok(staged["fetched_bytes"].as_f64().context("a number")? / changed as f64)
    }

    fn index(&self, version: &str) -> Result<TreeIndex> {
        Ok(TreeIndex::build(&self.folder.join("all").join(version), &HashCache::in_memory(), &PathPatterns::default())?)
    }

    /// The longest outage less the time of its commands.
    fn outage(&self, run: &Run) -> f64 {
        let own = |name: &String| {
            let of = |kind: &str| {
                run.events.iter().filter(|e| e["instrument"] == *name && e["event"] == kind).cloned().collect::<Vec<_>>()
            };
            let outage: f64 = of("outage_ended").iter().filter_map(|e| e["ms"].as_f64()).sum();
            let scripts =
                of("step_finished").into_iter().filter(|e| e["step"]["phase"] == "apply" && e["step"]["action"] == "command");
            (outage - scripts.filter_map(|e| e["ms"].as_f64()).sum::<f64>()) / 1e3
        };
        self.names.iter().map(own).fold(0.0, f64::max)
    }

    /// Hashing every file of a release against reading it.
    fn hashing(&self, figures: &mut Figures) -> Result<()> {
        let tree = self.folder.join("all").join(self.shape.newer());
        let read = || -> Result<f64> {
            let began = Instant::now();
            finish(Command::new("sh").args(["-c", "find . -type f -print0 | xargs -0 cat > /dev/null"]).current_dir(&tree))?;
            Ok(began.elapsed().as_secs_f64())
        };
        read()?; // Both sides find the files in memory.
        let began = Instant::now();
        self.index(self.shape.newer())?;
        let hashed = began.elapsed().as_secs_f64();
        figures.add("hashing a release / reading it with cat", hashed / read()?);
        Ok(())
    }

    /// Twelve steps that look at something, and one.
    fn steps(&self, figures: &mut Figures) -> Result<()> {
        let folder = self.folder.join("playbooks");
        std::fs::create_dir_all(&folder)?;
        let step = "  - check: {file: {path: server\\VERSION.txt}}\n";
        for (name, count) in [("one", 1), ("many", 101)] {
            std::fs::write(folder.join(format!("{name}.yaml")), format!("playbook: {name}\nstage:\n{}", step.repeat(count)))?;
        }
        let playbooks = ["--playbooks", folder.to_str().context("a plain path")?];
        let seconds = |name: &str| self.run(&["run", name, &self.names[0]], &playbooks).map(|run| run.seconds);
        let (one, many) = (seconds("one")?, seconds("many")?);
        figures.add("a run of one step on one sandbox, s", one);
        figures.add("overhead of each further step, ms", (many - one) * 10.0);
        Ok(())
    }
}

fn finish(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).with_context(|| format!("remove {}", folder.display())),
        _ => Ok(()),
    }
}
