//! Makes the built web page part of the binary: a table of the files in `web/dist`, empty where the page was not built.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/dist");
    // Cargo takes a folder that is missing for one that has changed, and would build this crate again each time.
    let _ = fs::create_dir_all(&dist);
    writeln!(io::stdout(), "cargo::rerun-if-changed={}", dist.display())?;
    let mut files = Vec::new();
    // Without its first page the rest would be of no use.
    if dist.join("index.html").is_file() {
        list(&dist, &mut files)?;
    }
    files.sort();
    let mut table = String::from("&[\n");
    for file in &files {
        let file = file.canonicalize()?;
        let name = file.strip_prefix(dist.canonicalize()?).map_err(io::Error::other)?.to_string_lossy().into_owned();
        table += &format!("    ({name:?}, include_bytes!({:?}) as &[u8]),\n", file.to_string_lossy());
    }
    table += "]\n";
    let out = std::env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("page.rs"), table)
}

/// Every file below a folder.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
