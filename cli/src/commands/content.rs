//! `add`, `cat`, `get`, `ls`: content by CID.

use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use ureq::SendBody;

use crate::args::{Add, Get, Ls};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{say, show};
use crate::progress::transfer;
use crate::text::{bytes, columns, plain};

/// `timerose add`
pub fn add(client: &Client, args: &Add) -> Result<(), CliError> {
    let added = upload(client, &args.path, args.spread.then_some(args.copies))?;
    for share in added["placed"].as_array().into_iter().flatten() {
        say(&format!("{} blocks at {}", share["blocks"], share["node"].as_str().unwrap_or_default()));
    }
    if let Some(missing) = added["missing"].as_u64().filter(|missing| *missing > 0) {
        say(&format!("{missing} copies are missing: the mesh has too few stores in reach"));
    }
    show(args.show.output, &added, || added["cid"].as_str().unwrap_or_default().to_string())
}

/// Sends a file or a folder to the node, which keeps it or spreads so many copies of it.
pub fn upload(client: &Client, path: &Path, copies: Option<u8>) -> Result<Value, CliError> {
    let route = copies.map_or("/v1/add".to_string(), |copies| format!("/v1/add?spread=true&copies={copies}"));
    let bar = transfer("adding", size_of(path)?);
    let meta = std::fs::symlink_metadata(path).map_err(|e| CliError::io(path.display(), e))?;
    let added = if meta.is_dir() {
        let (reader, writer) = std::io::pipe().map_err(|e| CliError::io("a pipe", e))?;
        let folder = path.to_path_buf();
        let archiving = std::thread::spawn(move || archive(&folder, writer));
        let sent = client.upload(&route, "application/x-tar", SendBody::from_owned_reader(bar.wrap_read(reader)));
        // What could not be read says more than the upload that broke off because of it.
        match archiving.join() {
            Ok(Err(failed)) if failed.code != "Pipe" => Err(failed),
            _ => sent,
        }
    } else {
        let file = File::open(path).map_err(|e| CliError::io(path.display(), e))?;
        client.upload(&route, "application/octet-stream", SendBody::from_owned_reader(bar.wrap_read(file)))
    };
    bar.finish_and_clear();
    added
}

/// The bytes of a file, or of the files of a folder.
fn size_of(path: &Path) -> Result<u64, CliError> {
    let meta = std::fs::symlink_metadata(path).map_err(|e| CliError::io(path.display(), e))?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    let mut sum = 0;
    for entry in std::fs::read_dir(path).map_err(|e| CliError::io(path.display(), e))? {
        sum += size_of(&entry.map_err(|e| CliError::io(path.display(), e))?.path())?;
    }
    Ok(sum)
}

/// Writes a folder as a tar archive, in order of names, so that equal folders make equal archives.
fn archive(folder: &Path, writer: impl Write) -> Result<(), CliError> {
    let mut builder = tar::Builder::new(std::io::BufWriter::with_capacity(1 << 20, writer));
    append(&mut builder, folder, Path::new(""))?;
    let mut rest = builder.into_inner().map_err(closed)?;
    rest.flush().map_err(closed)
}

/// The other end has gone: whoever reads says why.
fn closed(error: std::io::Error) -> CliError {
    CliError { code: "Pipe".into(), ..CliError::io("the upload", error) }
}

fn append<W: Write>(builder: &mut tar::Builder<W>, folder: &Path, below: &Path) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::io(folder.display(), e);
    let mut entries: Vec<_> = std::fs::read_dir(folder).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, name) = (entry.path(), below.join(entry.file_name()));
        if name.to_str().is_none() {
            return Err(CliError::usage(format!("{} is not named in UTF-8", path.display()), "rename it"));
        }
        let meta = std::fs::symlink_metadata(&path).map_err(|e| CliError::io(path.display(), e))?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            builder.append_data(&mut header, &name, std::io::empty()).map_err(closed)?;
            append(builder, &path, &name)?;
        } else if meta.is_file() {
            let file = File::open(&path).map_err(|e| CliError::io(path.display(), e))?;
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(meta.len());
            builder.append_data(&mut header, &name, file.take(meta.len())).map_err(closed)?;
        } else {
            let message = format!("{} is neither a file nor a folder", path.display());
            return Err(CliError::usage(message, "leave out links and special files"));
        }
    }
    Ok(())
}

/// Splits `CID/path`.
fn split(of: &str) -> String {
    let of = of.strip_prefix("/ipfs/").unwrap_or(of).trim_end_matches('/');
    of.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// A name as it stands in a URL's path (RFC 3986, unreserved characters as they are).
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// `timerose cat`
pub fn cat(client: &Client, of: &str) -> Result<(), CliError> {
    let mut reader = client.read(&format!("/v1/cat/{}", split(of)))?;
    let mut stdout = std::io::stdout().lock();
    copy(&mut reader, &mut stdout)?;
    stdout.flush().map_err(|e| CliError::stdout(&e))
}

fn copy(reader: &mut impl Read, writer: &mut impl Write) -> Result<u64, CliError> {
    let mut buffer = vec![0; 256 * 1024];
    let mut sum = 0;
    loop {
        let read = reader.read(&mut buffer);
        let count = read.map_err(|e| CliError::unavailable(format!("the content broke off: {e}"), "try again"))?;
        if count == 0 {
            return Ok(sum);
        }
        writer.write_all(&buffer[..count]).map_err(|e| CliError::stdout(&e))?;
        sum += count as u64;
    }
}

/// `timerose ls`
pub fn ls(client: &Client, args: &Ls) -> Result<(), CliError> {
    let entries = client.get(&format!("/v1/ls/{}", split(&args.of)))?;
    show(args.show.output, &entries, || {
        let row = |entry: &Value| {
            let folder = is_folder(entry);
            let size = if folder { "-".into() } else { bytes(entry["size"].as_u64().unwrap_or(0)) };
            let name = plain(entry["name"].as_str().unwrap_or_default());
            vec![entry["cid"].as_str().unwrap_or_default().to_string(), size, if folder { format!("{name}/") } else { name }]
        };
        let rows: Vec<Vec<String>> = entries.as_array().into_iter().flatten().map(row).collect();
        columns(&rows)
    })
}

/// `timerose get`
pub fn get(client: &Client, args: &Get) -> Result<(), CliError> {
    let of = split(&args.of);
    let root = client.get(&format!("/v1/stat/{of}"))?;
    let last = args.of.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let to = args.to.clone().unwrap_or_else(|| PathBuf::from(last));
    if to.symlink_metadata().is_ok() {
        return Err(CliError::usage(format!("{} exists", to.display()), "choose another path with -o"));
    }
    let mut got = Got::default();
    got.fetch(client, &of, &root, &to, 0)?;
    say(&format!("{} written in {} files", bytes(got.bytes), got.files));
    show(args.output, &json!({"path": to, "bytes": got.bytes, "files": got.files}), || to.display().to_string())
}

fn is_folder(entry: &Value) -> bool {
    entry["kind"] == json!("folder")
}

/// Folders within folders, and entries in all, that `get` writes: a small DAG can hold endlessly many.
const DEPTH_MAX: usize = 128;
const ENTRIES_MAX: u64 = 1_000_000;

/// What was written so far.
#[derive(Default)]
struct Got {
    bytes: u64,
    files: u64,
    entries: u64,
}

impl Got {
    fn fetch(&mut self, client: &Client, of: &str, entry: &Value, to: &Path, depth: usize) -> Result<(), CliError> {
        self.entries += 1;
        if depth > DEPTH_MAX || self.entries > ENTRIES_MAX {
            let message = format!("the content is deeper than {DEPTH_MAX} folders or has over {ENTRIES_MAX} entries");
            return Err(CliError::usage(message, "get a part of it"));
        }
        if entry["kind"] == json!("symlink") {
            say(&format!("left out {}: a symbolic link", to.display()));
            return Ok(());
        }
        if !is_folder(entry) {
            return self.file(client, of, to);
        }
        std::fs::create_dir(to).map_err(|e| CliError::io(to.display(), e))?;
        for entry in client.get(&format!("/v1/ls/{of}"))?.as_array().into_iter().flatten() {
            let name = entry["name"].as_str().unwrap_or_default();
            // Names come from whoever made the folder: one that is not a plain name would lead out of it.
            let mut parts = Path::new(name).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == name) {
                return Err(CliError::usage(
                    format!("the folder holds the name {:?}", plain(name)),
                    "read it with `timerose cat`",
                ));
            }
            let below = entry["cid"].as_str().unwrap_or_default();
            self.fetch(client, below, entry, &to.join(name), depth + 1)?;
        }
        Ok(())
    }

    /// Writes under another name first, so that a file that is there is whole.
    fn file(&mut self, client: &Client, of: &str, to: &Path) -> Result<(), CliError> {
        let mut part = to.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let failed = |e: std::io::Error| CliError::io(to.display(), e);
        let mut reader = client.read(&format!("/v1/cat/{of}"))?;
        let written = File::create_new(&part).map_err(failed).and_then(|mut file| copy(&mut reader, &mut file));
        match written {
            Ok(bytes) => {
                std::fs::rename(&part, to).map_err(failed)?;
                self.bytes += bytes;
                self.files += 1;
                Ok(())
            }
            Err(error) => {
                let _ = std::fs::remove_file(&part);
                Err(error)
            }
        }
    }
}
