//! What files cost: makes the kit that the benches release, and indexes a tree beside a plain read of it.
//!
//! ```text
//! files kit DIR SHAPE     the two releases of `small`, `large` or `plain` (large, without git) in DIR
//! files index DIR ROUNDS  one line of JSON a round: milliseconds to index DIR with no hash known, and to read it
//! ```

use ibexdeploy::content::{HashCache, TreeIndex};
use ibexdeploy::paths::PathPatterns;
use ibexdeploy::rehearsal::{KitShape, make_kits};
use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    // Cargo adds `--bench`.
    let given: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["kit", folder, "small"] => make(folder, &KitShape::small()),
        ["kit", folder, "large"] => make(folder, &KitShape::large()),
        ["kit", folder, "plain"] => make(folder, &KitShape::large().without_git()),
        ["index", folder, rounds] => index(Path::new(folder), rounds.parse()?),
        _ => Ok(writeln!(stdout(), "run scripts/bench, which gives this its arguments")?),
    }
}

fn make(folder: &str, shape: &KitShape) -> Done {
    std::fs::create_dir_all(folder)?;
    make_kits(Path::new(folder), shape)?;
    Ok(())
}

/// Both in turn, so that what the machine does besides meets both alike; the first round warms the system's cache.
fn index(folder: &Path, rounds: u32) -> Done {
    for round in 0..=rounds {
        let begun = Instant::now();
        let index = TreeIndex::build(folder, &HashCache::in_memory(), &PathPatterns::default())?;
        let hashed = begun.elapsed();
        let begun = Instant::now();
        let read = Command::new("sh")
            .args(["-c", "find . -type f -print0 | xargs -0 cat"])
            .current_dir(folder)
            .stdout(Stdio::null())
            .status()?;
        let read_in = begun.elapsed();
        if !read.success() {
            return Err("the files cannot be read".into());
        }
        if round > 0 {
            let line = serde_json::json!({
                "files": index.entries.len(),
                "bytes": index.total_bytes(),
                "index_ms": hashed.as_secs_f64() * 1e3,
                "read_ms": read_in.as_secs_f64() * 1e3,
            });
            writeln!(stdout(), "{line}")?;
        }
    }
    Ok(())
}
