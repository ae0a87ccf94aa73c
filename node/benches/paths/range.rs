//! Parts of a file over HTTP, at random places: our gateway against nginx with the same file.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use timerose_content::Content;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Settings;
use crate::http::Client;
use crate::machine::{self, MIB};
use crate::report::{Better, Goal, Row};
use crate::small::{begin, config};

/// The lengths of the parts.
const PARTS: [(&str, u64); 2] = [("64 KiB", 64 << 10), ("4 MiB", 4 << 20)];

/// nginx over a folder. It ends with the rows.
struct Nginx {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM to the master, which ends its workers; a kill would leave them.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Nginx {
    /// `None`: it is not installed.
    fn start(folder: &Path) -> Option<Nginx> {
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let at = folder.display();
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {at}/{name};")).concat();
        let text = format!(
            "daemon off; user root; worker_processes 2; pid {at}/nginx.pid; error_log stderr;\n\
             events {{}}\n\
             http {{ access_log off; sendfile on; keepalive_requests 1000000000; {temporary} server {{ listen {addr}; root {at}; }} }}\n"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, text).expect("written");
        // Debian keeps it where only root looks.
        ["nginx", "/usr/sbin/nginx"].into_iter().find_map(|program| {
            let mut command = Command::new(program);
            command.args(["-e", "stderr", "-c"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().ok().map(|child| Nginx { child, addr })
        })
    }

    async fn ready(&self) {
        for _ in 0..200 {
            if TcpStream::connect(self.addr).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nginx does not listen");
    }
}

/// MiB a second of parts of a file, by as many connections as are asked for.
async fn rate(server: SocketAddr, path: &str, length: u64, settings: &Settings) -> f64 {
    let begin = Instant::now();
    let until = begin + Duration::from_secs_f64(settings.seconds);
    let most = settings.size_mb * MIB - length;
    let mut clients = JoinSet::new();
    for number in 0..settings.connections {
        let path = path.to_string();
        clients.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(machine::seed() ^ number as u64);
            let mut client = Client::connect(server).await;
            let mut bytes = 0;
            while Instant::now() < until {
                let first = rng.u64(..=most);
                let (status, body) = client.get_range(&path, first, first + length - 1).await;
                assert_eq!((status, body.len() as u64), (206, length));
                bytes += length;
            }
            bytes
        });
    }
    let total: u64 = clients.join_all().await.into_iter().sum();
    total as f64 / MIB as f64 / begin.elapsed().as_secs_f64()
}

/// The rows about parts of files.
pub fn rows(runtime: &Runtime, settings: &Settings) -> Vec<Row> {
    let folder = settings.folder("range");
    let file = folder.join("file");
    machine::random_file(&file, settings.size_mb * MIB);
    let row = |part: &str, limit| {
        let path = format!("HTTP ranges of {part} of a file of {} MiB, {} connections", settings.size_mb, settings.connections);
        Row::new(path, "MiB/s", Better::Higher, Goal::Shown, limit)
    };
    let Some(nginx) = Nginx::start(&folder) else {
        eprintln!("   nginx is not installed: the rows about ranges are left out");
        return PARTS.map(|(part, _)| row(part, "left out: nginx is not installed")).into();
    };
    let dir = folder.join("node");
    let cid = {
        let (content, _behaviour) = Content::open(&dir.join("blocks"), runtime.handle()).expect("a store");
        content.add_path(&file, &mut |_, _| {}).expect("added").cid
    };
    let running = runtime.block_on(begin(config(&dir, 0, Vec::new(), &[])));
    runtime.block_on(nginx.ready());
    let mut rows = PARTS.map(|(part, _)| row(part, "nginx, the same file"));
    for _ in 0..settings.rounds {
        for (row, (_, length)) in rows.iter_mut().zip(PARTS) {
            let ours = runtime.block_on(rate(running.api, &format!("/ipfs/{cid}"), length, settings));
            row.round(ours, runtime.block_on(rate(nginx.addr, "/file", length, settings)));
        }
    }
    runtime.block_on(running.stop());
    rows.into()
}
