//! A real server.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// A process of `nats-server`. Dropping it kills it; its data stays in its directory.
pub struct Real {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Real {
    /// Starts one with JetStream in this directory, at a free port of 127.0.0.1. `config` is more of its configuration, such as
    /// `authorization { token: "x" }`.
    pub fn start(program: &Path, dir: &Path, config: &str) -> io::Result<Self> {
        let port = support::free_address().port();
        let text = format!(
            "host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: {:?} }}\n{config}\n",
            dir.join("data")
        );
        fs::write(dir.join("nats.conf"), text)?;
        let (program, dir) = (program.to_owned(), dir.to_owned());
        let mut server = Self { program, dir, port, child: None };
        server.begin()?;
        Ok(server)
    }

    /// Host and port.
    pub fn at(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it again where it was.
    pub fn begin(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.dir.join("nats.conf"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(self.at()).is_err() {
            if Instant::now() > until {
                let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(io::Error::other(format!("it does not begin: {log}")));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends it as SIGKILL does.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Makes a key-value bucket at a server. `login` is what `CONNECT` has, such as `{"user": "a", "pass": "b"}`; `change` is
/// for the configuration of its stream.
pub fn make_bucket(at: &str, login: &Value, bucket: &str, change: &Value) -> io::Result<()> {
    let stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut config = json!({
        "name": format!("KV_{bucket}"), "subjects": [format!("$KV.{bucket}.>")], "storage": "file",
        "num_replicas": 1, "max_msgs_per_subject": 1, "discard": "new", "allow_rollup_hdrs": true,
        "deny_delete": true, "allow_direct": true,
    });
    let mut connect = json!({ "verbose": false, "pedantic": false, "headers": true });
    merge(&mut connect, login);
    merge(&mut config, change);
    let body = config.to_string();
    let subject = format!("$JS.API.STREAM.CREATE.KV_{bucket}");
    let text = format!(
        "CONNECT {connect}\r\nSUB answer 1\r\nPUB {subject} answer {}\r\n{body}\r\n",
        body.len()
    );
    (&stream).write_all(text.as_bytes())?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.starts_with("-ERR") {
            return Err(io::Error::other(line));
        }
        if !line.starts_with("MSG") {
            continue;
        }
        let bytes = line.trim().rsplit(' ').next().and_then(|it| it.parse().ok());
        let mut payload = vec![0; bytes.ok_or_else(|| io::Error::other("no size"))?];
        reader.read_exact(&mut payload)?;
        let answer: Value = serde_json::from_slice(&payload)?;
        return match answer.get("error") {
            None => Ok(()),
            Some(error) => Err(io::Error::other(error.to_string())),
        };
    }
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}
