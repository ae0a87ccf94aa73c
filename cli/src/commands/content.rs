//! `add`, `cat`, `ls`: content by CID.

use serde_json::Value;
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use ureq::SendBody;

use crate::args::{Add, Ls};
use crate::client::Client;
use crate::error::CliError;
use crate::output::{say, show};
use crate::progress::transfer;
use crate::text::{bytes, columns, plain, url_part};

/// `timerose add`
pub fn add(client: &Client, args: &Add) -> Result<(), CliError> {
    let added = upload(client, &args.path, &Upload::of(args))?;
    for share in added["placed"].as_array().into_iter().flatten() {
        say(&format!("{} blocks at {}", share["blocks"], share["node"].as_str().unwrap_or_default()));
    }
    if let Some(missing) = added["missing"].as_u64().filter(|missing| *missing > 0) {
        say(&format!("{missing} copies are missing: the mesh has too few stores in reach"));
    }
    show(args.show.output, &added, || added["cid"].as_str().unwrap_or_default().to_string())
}

/// How something is sent: what the node is asked, and what it is told of files.
#[derive(Clone, Default)]
pub struct Upload {
    query: Vec<String>,
    keep: Keep,
}

/// What is told of files beside their bytes.
#[derive(Clone, Copy, Default)]
struct Keep {
    modes: bool,
    mtimes: bool,
}

impl Upload {
    /// Without a pin: for what is about to be linked to, or is of use for a call alone.
    pub fn unpinned() -> Upload {
        Upload { query: vec!["pin=false".into()], keep: Keep::default() }
    }

    fn of(args: &Add) -> Upload {
        let shape = &args.shape;
        let mut query = vec![format!("pin={}", args.pin), format!("cid-version={}", shape.cid_version)];
        query.push(format!("chunker={}", url_part(&shape.chunker)));
        if args.spread {
            query.push(format!("spread=true&copies={}", args.copies));
        }
        if shape.trickle {
            query.push("trickle=true".into());
        }
        if shape.raw_leaves || shape.no_raw_leaves {
            query.push(format!("raw-leaves={}", shape.raw_leaves));
        }
        Upload { query, keep: Keep { modes: shape.preserve_mode, mtimes: shape.preserve_mtime } }
    }

    fn route(&self, meta: &Metadata) -> String {
        let mut query = self.query.clone();
        if meta.is_dir() {
            query.extend(self.keep.modes.then(|| "preserve-mode=true".into()));
            query.extend(self.keep.mtimes.then(|| "preserve-mtime=true".into()));
        } else {
            query.extend(self.keep.modes.then(|| format!("mode={:o}", meta.mode() & 0o7777)));
            query.extend(self.keep.mtimes.then(|| format!("mtime={}&mtime-nsecs={}", meta.mtime(), meta.mtime_nsec())));
        }
        format!("/v1/add?{}", query.join("&"))
    }
}

/// Sends a file or a folder to the node.
pub fn upload(client: &Client, path: &Path, how: &Upload) -> Result<Value, CliError> {
    let meta = std::fs::metadata(path).map_err(|e| CliError::io(path.display(), e))?;
    let route = how.route(&meta);
    if meta.is_dir() {
        let bar = transfer("adding", size_of(path)?);
        let (reader, writer) = std::io::pipe().map_err(|e| CliError::io("a pipe", e))?;
        let (folder, keep) = (path.to_path_buf(), how.keep);
        let archiving = std::thread::spawn(move || archive(&folder, keep, writer));
        let sent = client.upload(&route, "application/x-tar", SendBody::from_owned_reader(bar.wrap_read(reader)));
        bar.finish_and_clear();
        // What could not be read says more than the upload that broke off because of it.
        match archiving.join() {
            Ok(Err(failed)) if failed.code != CUT_SHORT => Err(failed),
            _ => sent,
        }
    } else {
        let bar = transfer("adding", meta.len());
        let file = File::open(path).map_err(|e| CliError::io(path.display(), e))?;
        let sent = client.upload(&route, "application/octet-stream", SendBody::from_owned_reader(bar.wrap_read(file)));
        bar.finish_and_clear();
        sent
    }
}

/// The bytes of the files of a folder.
fn size_of(folder: &Path) -> Result<u64, CliError> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).map_err(|e| CliError::io(folder.display(), e))? {
        let path = entry.map_err(|e| CliError::io(folder.display(), e))?.path();
        let meta = std::fs::symlink_metadata(&path).map_err(|e| CliError::io(path.display(), e))?;
        sum += if meta.is_dir() { size_of(&path)? } else { meta.len() };
    }
    Ok(sum)
}

/// Writes a folder as a tar archive, in order of names, so that equal folders make equal archives.
fn archive(folder: &Path, keep: Keep, writer: impl Write) -> Result<(), CliError> {
    let mut builder = tar::Builder::new(std::io::BufWriter::with_capacity(1 << 20, writer));
    if keep.modes || keep.mtimes {
        let meta = std::fs::metadata(folder).map_err(|e| CliError::io(folder.display(), e))?;
        let mut header = header(&mut builder, &meta, keep)?;
        header.set_entry_type(tar::EntryType::Directory);
        builder.append_data(&mut header, "./", std::io::empty()).map_err(closed)?;
    }
    append(&mut builder, folder, Path::new(""), keep)?;
    let mut rest = builder.into_inner().map_err(closed)?;
    rest.flush().map_err(closed)
}

/// The head of an entry; an exact time goes before it as a PAX record.
fn header<W: Write>(builder: &mut tar::Builder<W>, meta: &Metadata, keep: Keep) -> Result<tar::Header, CliError> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(if keep.modes { meta.mode() & 0o7777 } else { 0o644 });
    header.set_size(0);
    if keep.mtimes {
        // PAX counts the fraction with the sign, the file system from the second below.
        let (seconds, nanos) = (meta.mtime(), meta.mtime_nsec());
        let time = match (seconds, nanos) {
            (-1, 1..) => format!("-0.{:09}", 1_000_000_000 - nanos),
            (..=-2, 1..) => format!("{}.{:09}", seconds + 1, 1_000_000_000 - nanos),
            _ => format!("{seconds}.{nanos:09}"),
        };
        let record = pax("mtime", &time);
        let mut extra = tar::Header::new_gnu();
        extra.set_entry_type(tar::EntryType::XHeader);
        extra.set_mode(0o644);
        extra.set_size(record.len() as u64);
        builder.append_data(&mut extra, "pax", record.as_bytes()).map_err(closed)?;
    }
    Ok(header)
}

/// A PAX record, whose length counts its own digits.
fn pax(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length += 1;
    }
    format!("{length}{rest}")
}

/// An error that is no user's: whoever reads the other end says more.
const CUT_SHORT: &str = "";

/// The other end has gone: whoever reads says why.
fn closed(error: std::io::Error) -> CliError {
    CliError { code: CUT_SHORT.into(), ..CliError::io("the upload", error) }
}

fn append<W: Write>(builder: &mut tar::Builder<W>, folder: &Path, below: &Path, keep: Keep) -> Result<(), CliError> {
    let failed = |e: std::io::Error| CliError::io(folder.display(), e);
    let mut entries: Vec<_> = std::fs::read_dir(folder).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let (path, name) = (entry.path(), below.join(entry.file_name()));
        let unreadable = |e: std::io::Error| CliError::io(path.display(), e);
        let not_utf8 = || CliError::usage(format!("{} is not named in UTF-8", path.display()), "rename it");
        if name.to_str().is_none() {
            return Err(not_utf8());
        }
        let meta = std::fs::symlink_metadata(&path).map_err(unreadable)?;
        if !(meta.is_dir() || meta.is_file() || meta.is_symlink()) {
            let message = format!("{} is no file, folder or symbolic link", path.display());
            return Err(CliError::usage(message, "leave out special files"));
        }
        let mut header = header(builder, &meta, keep)?;
        if meta.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, &name, std::io::empty()).map_err(closed)?;
            append(builder, &path, &name, keep)?;
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&path).map_err(unreadable)?;
            target.to_str().ok_or_else(not_utf8)?;
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, &name, &target).map_err(closed)?;
        } else {
            let file = File::open(&path).map_err(unreadable)?;
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(meta.len());
            builder.append_data(&mut header, &name, file.take(meta.len())).map_err(closed)?;
        }
    }
    Ok(())
}

/// `CID/path`, `/ipfs/CID/path` or `ipfs://CID/path` as it stands in a URL of the API.
pub(super) fn split(of: &str) -> String {
    let of = ["/ipfs/", "ipfs://"].iter().find_map(|prefix| of.strip_prefix(prefix)).unwrap_or(of).trim_end_matches('/');
    of.split('/').map(url_part).collect::<Vec<_>>().join("/")
}

/// `timerose cat`
pub fn cat(client: &Client, of: &str) -> Result<(), CliError> {
    let mut reader = client.read(&format!("/v1/cat/{}", split(of)))?;
    let mut stdout = std::io::stdout().lock();
    copy(&mut reader, &mut stdout, CliError::stdout)?;
    stdout.flush().map_err(|e| CliError::stdout(&e))
}

/// Gives how many bytes there were; `failed` says what could not be written.
pub(super) fn copy(
    reader: &mut impl Read,
    writer: &mut impl Write,
    failed: impl Fn(&std::io::Error) -> CliError,
) -> Result<u64, CliError> {
    let mut buffer = vec![0; 256 * 1024];
    let mut sum = 0;
    loop {
        let read = reader.read(&mut buffer);
        let count = read.map_err(|e| CliError::unavailable(format!("the content broke off: {e}"), "try again"))?;
        if count == 0 {
            return Ok(sum);
        }
        writer.write_all(&buffer[..count]).map_err(|e| failed(&e))?;
        sum += count as u64;
    }
}

/// `timerose ls`
pub fn ls(client: &Client, args: &Ls) -> Result<(), CliError> {
    let entries = client.get(&format!("/v1/ls/{}", split(&args.of)))?;
    show(args.show.output, &entries, || {
        let row = |entry: &Value| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            let size = if text("kind") == "file" { bytes(entry["size"].as_u64().unwrap_or(0)) } else { "-".into() };
            let name = plain(text("name"));
            let name = match text("kind") {
                "folder" => format!("{name}/"),
                "symlink" => format!("{name} -> {}", plain(text("target"))),
                _ => name,
            };
            vec![text("cid").to_string(), size, name]
        };
        let rows: Vec<Vec<String>> = entries.as_array().into_iter().flatten().map(row).collect();
        columns(&rows)
    })
}
