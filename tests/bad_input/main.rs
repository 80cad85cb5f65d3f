//! What people get wrong: each line of the catalogue of bad inputs with its text and its exit code, through the real
//! programs; and thousands of variants of them, which must be refused in one short line or taken, and never panic.

mod variants;

use std::fs;
use std::io::Write as _;
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use p2ps::io::store::{Store, StoreUrl};
use p2ps::tracker::provider::change::{Change, Table};

/// A folder of its own for a test, and the programs run in it.
struct Bench {
    dir: tempfile::TempDir,
}

/// Where cargo put a program.
fn program(tool: &str) -> &'static str {
    match tool {
        "p2ps-source" => env!("CARGO_BIN_EXE_p2ps-source"),
        "p2ps-relay" => env!("CARGO_BIN_EXE_p2ps-relay"),
        "p2ps-peer" => env!("CARGO_BIN_EXE_p2ps-peer"),
        "p2ps-tracker" => env!("CARGO_BIN_EXE_p2ps-tracker"),
        _ => panic!("no program {tool}"),
    }
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let bench = Self { dir };
        bench.file("k.pem", "-----BEGIN PRIVATE KEY-----\n", 0o644);
        bench.file("k.pub", "-----BEGIN PUBLIC KEY-----\n", 0o600);
        bench.file("empty", "", 0o600);
        bench.file("word", "word", 0o600);
        fs::create_dir(bench.path().join("k")).unwrap();
        symlink("loop", bench.path().join("loop")).unwrap();
        let made = bench.run("p2ps-source keygen -o good.pem");
        assert!(made.status.success(), "{made:?}");
        bench
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, name: &str, contents: &str, mode: u32) {
        let path = self.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A program with nothing around it but a path and a home.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        let tool = words.next().expect("a line names its tool");
        let mut command = self.command(program(tool));
        command.args(words).output().expect("the program runs")
    }

    /// Runs a line that must fail with one line of text, an exit code, and nothing on standard output.
    fn refuses(&self, line: &str, expected: &str, code: i32) {
        let output = self.run(line);
        let stderr = String::from_utf8(output.stderr).expect("errors are text");
        assert_eq!(stderr, format!("{expected}\n"), "{line}");
        assert_eq!(output.status.code(), Some(code), "{line}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

/// A channel id of the right length, and one a byte short.
const ID: &str = "0f974d96a22d224bc01adb915091477d44ccd91c9a41a11430010117d52c59240e";

#[test]
fn rows_1_to_4_addresses() {
    let bench = Bench::new();
    for (line, expected) in [
        (
            "p2ps-peer",
            "p2ps-peer: no channel: give a p2ps:// address or a ticket",
        ),
        (
            "p2ps-relay --tracker t1",
            "p2ps-relay: no channel: give a p2ps:// address or a ticket",
        ),
        (
            "p2ps-peer p2ps://zz@host",
            "p2ps-peer: bad channel id \"zz\": not hexadecimal at character 1",
        ),
        (
            &format!("p2ps-peer p2ps://{}@host", &ID[..64]),
            "p2ps-peer: bad channel id: 32 bytes, need 33",
        ),
        (
            "p2ps-peer p2ps://t1/film --listen 1.2.3.4:99999",
            "p2ps-peer: bad --listen \"1.2.3.4:99999\": port above 65535",
        ),
        (
            "p2ps-peer p2ps-ticketai",
            "p2ps-peer: bad ticket: version 2, this tool knows 1",
        ),
    ] {
        bench.refuses(line, expected, 2);
    }
}

#[test]
fn row_5_a_used_port() {
    let bench = Bench::new();
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    for tool in [
        "p2ps-peer p2ps://127.0.0.1/film -o out.ts",
        "p2ps-relay p2ps://127.0.0.1/film",
        "p2ps-source -i word --channel film",
    ] {
        let name = tool.split_whitespace().next().unwrap();
        bench.refuses(
            &format!("{tool} --listen {address}"),
            &format!("{name}: cannot bind {address}: address in use (try --listen :0)"),
            7,
        );
    }
}

#[test]
fn rows_6_to_8_quantities() {
    let bench = Bench::new();
    bench.refuses(
        "p2ps-source --upload-limit 8",
        "p2ps-source: bad --upload-limit \"8\": unit missing, for example 8Mbit",
        2,
    );
    for value in ["-1Mbit", "0bit", "1e400Mbit"] {
        bench.refuses(
            &format!("p2ps-source --upload-limit {value}"),
            &format!("p2ps-source: bad --upload-limit \"{value}\": must be 1kbit to 100Gbit"),
            2,
        );
    }
    bench.refuses(
        "p2ps-peer --latency 10h",
        "p2ps-peer: bad --latency \"10h\": must be 0s to 10min",
        2,
    );
}

#[test]
fn rows_10_11_23_options() {
    let bench = Bench::new();
    for (line, expected) in [
        (
            "p2ps-relay --parnet relay1",
            "p2ps-relay: unknown option --parnet: did you mean --parent?",
        ),
        (
            "p2ps-peer p2ps://t1/film --no-upload --upload-limit 1Mbit",
            "p2ps-peer: --no-upload and --upload-limit exclude each other",
        ),
        (
            "p2ps-peer --tracker ftp://x",
            "p2ps-peer: bad --tracker \"ftp://x\": need http, https or host:port",
        ),
        (
            "p2ps-peer --tracker file:///etc/passwd",
            "p2ps-peer: bad --tracker \"file:///etc/passwd\": need http, https or host:port",
        ),
    ] {
        bench.refuses(line, expected, 2);
    }
}

#[test]
fn s_51_rows_13_to_15_keys() {
    let bench = Bench::new();
    for (key, expected) in [
        (
            "k.pem",
            "cannot use key \"k.pem\": readable by others, chmod 600 it",
        ),
        ("k", "cannot read key \"k\": is a directory"),
        ("loop", "cannot read key \"loop\": is a symbolic link"),
        ("empty", "cannot read key \"empty\": is empty"),
        ("k.pub", "cannot use key \"k.pub\": it is a public key"),
        ("word", "cannot use key \"word\": it is not a PEM file"),
        (
            "none",
            "cannot read key \"none\": no such file, make one with p2ps-source keygen",
        ),
    ] {
        for line in ["p2ps-source --channel film", "p2ps-source ticket"] {
            bench.refuses(
                &format!("{line} --key {key}"),
                &format!("p2ps-source: {expected}"),
                2,
            );
        }
    }
}

#[test]
fn rows_16_and_19_no_media() {
    let bench = Bench::new();
    // The address of the channel is told before the first byte comes, and records go to a free standard output.
    let source =
        "p2ps-source --channel film --listen 127.0.0.1:0 --key good.pem -q --stats records";
    for (input, expected) in [
        ("-i movie.ts", "cannot open \"movie.ts\": no such file"),
        ("-i k", "cannot open \"k\": is a directory"),
        ("-i empty", "no media: input ended before the first byte"),
        ("", "no media: input ended before the first byte"),
    ] {
        bench.refuses(
            &format!("{source} {input}"),
            &format!("p2ps-source: {expected}"),
            3,
        );
    }
}

#[test]
fn rows_17_and_18_terminals() {
    let bench = Bench::new();
    // `script` gives its command a terminal; what the command says goes to files, and so does its exit code.
    for (tool, arguments, expected) in [
        (
            "p2ps-source",
            "--channel film --key good.pem >out",
            "p2ps-source: cannot read media from a terminal: pipe a stream in or name a file with -i",
        ),
        (
            "p2ps-peer",
            "p2ps://127.0.0.1/film",
            "p2ps-peer: will not write media to a terminal: redirect it or use -o",
        ),
        (
            "p2ps-source",
            "--channel film --key good.pem -i word --tee -",
            "p2ps-source: will not write media to a terminal: redirect it or use -o",
        ),
    ] {
        let inner = format!("{} {arguments} 2>err; echo $? >code", program(tool));
        let run = bench
            .command("script")
            .args(["-q", "-c", &inner, "/dev/null"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if run.is_err() {
            eprintln!("left out: rows 17 and 18, script(1) of bsdutils is not installed");
            return;
        }
        let read = |name: &str| fs::read_to_string(bench.path().join(name)).unwrap_or_default();
        assert_eq!(read("err"), format!("{expected}\n"));
        assert_eq!(read("code"), "2\n");
    }
}

#[test]
fn stores_that_are_none() {
    let bench = Bench::new();
    const NEED: &str = "need mem:, redb:PATH or redis[s]://HOST[:PORT][/DB]";
    const NEED_REDIS: &str = "need redis[s]://[[USER]:PASSWORD@]HOST[:PORT][/DB]";
    for (store, shown, why) in [
        ("sqlite:st", "sqlite:st", NEED),
        ("redb:", "redb:", NEED),
        ("mem:st", "mem:st", NEED),
        ("st", "st", NEED),
        ("valkeys://cache", "valkeys://cache", NEED),
        ("redis:cache", "redis:cache", NEED_REDIS),
        ("redis://cache/film", "redis://cache/film", NEED_REDIS),
        // What may be a password is not shown.
        ("redis://:pw@cache:0", "redis://…@cache:0", NEED_REDIS),
        ("rediss://ann:pw@cache:0", "rediss://…@cache:0", NEED_REDIS),
    ] {
        bench.refuses(
            &format!("p2ps-tracker --store {store}"),
            &format!("p2ps-tracker: bad --store \"{shown}\": {why}"),
            2,
        );
    }
    // A port that was free a moment ago, at an address where nobody else binds one.
    let free = std::net::TcpListener::bind("127.94.0.1:0").expect("a loopback address");
    let port = free.local_addr().expect("it is bound").port();
    drop(free);
    bench.refuses(
        &format!("{TRACKER} redis://:pw@127.94.0.1:{port}/1"),
        &format!(
            "p2ps-tracker: cannot reach store \"redis://127.94.0.1:{port}/1\": connection refused"
        ),
        4,
    );
}

#[test]
fn a_store_that_is_no_redis() {
    let bench = Bench::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback address");
    let at = listener.local_addr().expect("it is bound");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the tracker connects");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    bench.refuses(
        &format!("{TRACKER} redis://{at}"),
        &format!("p2ps-tracker: cannot reach store \"redis://{at}/0\": no answer of a Redis"),
        4,
    );
    answering.join().expect("it does not panic");
}

#[test]
fn plain_http_and_certificates() {
    let bench = Bench::new();
    bench.file("cert", "-----BEGIN CERTIFICATE-----\n", 0o644);
    for (line, expected) in [
        (
            "--listen 0.0.0.0:0",
            "will not serve plain http on 0.0.0.0:0: add --tls-cert and --tls-key, or --insecure-http",
        ),
        ("--tls-cert cert", "--tls-cert needs --tls-key"),
        (
            "--tls-cert cert --tls-key good.pem --insecure-http",
            "--tls-cert and --insecure-http exclude each other",
        ),
        (
            "--tls-cert none --tls-key good.pem",
            "cannot read certificate \"none\": no such file",
        ),
        (
            "--tls-cert word --tls-key good.pem",
            "cannot use certificate \"word\": no certificate in it",
        ),
        (
            "--tls-cert cert --tls-key k.pem",
            "cannot use key \"k.pem\": readable by others, chmod 600 it",
        ),
    ] {
        bench.refuses(
            &format!("p2ps-tracker {line}"),
            &format!("p2ps-tracker: {expected}"),
            2,
        );
    }
    bench.refuses(
        "p2ps-peer p2ps://127.0.0.1/film -o out.ts --tls-ca word",
        "p2ps-peer: cannot use certificate \"word\": no certificate in it",
        2,
    );
}

/// A tracker that may not get far enough to listen.
const TRACKER: &str = "p2ps-tracker --listen 127.0.0.1:0 --dry-run --store";

/// A store with rows in it, written by the library.
fn stored(path: &Path) -> Store {
    let (store, _) = Store::open(&StoreUrl::Redb(path.to_owned())).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    for number in 0..100 {
        let row = Change {
            table: Table::Ledger,
            key: format!("{number:06}"),
            value: Some("x".repeat(100)),
        };
        runtime.block_on(store.submit(vec![row])).expect("stored");
    }
    store
}

#[test]
fn bad_input_26_state_of_a_newer_version() {
    let bench = Bench::new();
    let path = bench.path().join("st");
    drop(stored(&path));
    {
        let database = redb::Database::open(&path).unwrap();
        let writing = database.begin_write().unwrap();
        let about = redb::TableDefinition::<&str, &str>::new("p2ps");
        writing
            .open_table(about)
            .unwrap()
            .insert("version", "3")
            .unwrap();
        writing.commit().unwrap();
    }
    bench.refuses(
        &format!("{TRACKER} redb:st"),
        "p2ps-tracker: cannot read state \"st\": version 3, this tool knows 1",
        2,
    );
}

#[test]
fn bad_input_27_state_that_is_torn() {
    let bench = Bench::new();
    let path = bench.path().join("st");
    let store = stored(&path);
    // As a crash leaves it, without the pages of the newest commit.
    let whole = fs::read(&path).unwrap();
    drop(store);
    let run = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let output = bench.run(&format!("{TRACKER} redb:st"));
        let said = String::from_utf8(output.stderr).unwrap();
        // Without the time before it.
        let said = said
            .split_once("p2ps-tracker: ")
            .map(|(_, said)| said.to_owned());
        (output.status.code(), said.unwrap_or_default())
    };
    assert_eq!(run(&whole), (Some(0), String::new()));
    let torn = (4096..whole.len()).step_by(4096).find_map(|at| {
        let mut bytes = whole.clone();
        bytes[at..at + 4096].fill(0);
        let (code, said) = run(&bytes);
        (code == Some(0) && !said.is_empty()).then_some(said)
    });
    assert_eq!(
        torn.as_deref(),
        Some(
            "warning: state \"st\" ends in a commit that is not whole: what follows the last whole record is ignored\n"
        )
    );
    let cut = whole.len() / 2;
    assert_eq!(
        run(&whole[..cut]),
        (
            Some(1),
            format!("cannot read state \"st\": cut at byte {cut}, and no whole commit is left\n")
        )
    );
    assert_eq!(fs::read(&path).unwrap(), &whole[..cut]);
    assert_eq!(
        run(b"not a database"),
        (
            Some(1),
            "cannot read state \"st\": not a file of this tool\n".to_owned()
        )
    );
}

#[test]
fn bad_input_28_two_trackers_on_one_state() {
    let bench = Bench::new();
    let _store = stored(&bench.path().join("st"));
    bench.refuses(
        &format!("{TRACKER} redb:st"),
        &format!(
            "p2ps-tracker: cannot lock state \"st\": used by process {}",
            std::process::id()
        ),
        7,
    );
}

#[test]
fn s_51_state_that_others_can_read_or_swap() {
    let bench = Bench::new();
    let path = bench.path().join("st");
    drop(stored(&path));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    symlink("st", bench.path().join("link")).unwrap();
    fs::create_dir(bench.path().join("folder")).unwrap();
    for (store, why) in [
        ("link", "is a symbolic link"),
        ("loop", "is a symbolic link"),
    ] {
        bench.refuses(
            &format!("{TRACKER} redb:{store}"),
            &format!("p2ps-tracker: cannot use state \"{store}\": {why}"),
            2,
        );
    }
    bench.refuses(
        &format!("{TRACKER} redb:folder"),
        "p2ps-tracker: cannot open state \"folder\": is a directory",
        2,
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    bench.refuses(
        &format!("{TRACKER} redb:st"),
        "p2ps-tracker: cannot use state \"st\": readable by others, chmod 600 it",
        2,
    );
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let bench = Bench::new();
    for line in ["--help", "--version", "completions zsh", "--print-config"] {
        let peer = program("p2ps-peer");
        // The pipe is closed before the program writes: `exec` waits for the line that the reader sends at its end.
        let pipeline = format!(
            "mkfifo gone; {{ read -r _ <gone; {peer} {line}; echo $? >code; }} | {{ exec <&-; echo >gone; }}"
        );
        let output = bench
            .command("sh")
            .args(["-c", &pipeline])
            .output()
            .expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
        let code = fs::read_to_string(bench.path().join("code")).unwrap();
        assert_eq!(code, "0\n", "{line}");
        fs::remove_file(bench.path().join("gone")).unwrap();
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let bench = Bench::new();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = bench
        .command(program("p2ps-peer"))
        .arg("--help")
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "p2ps-peer: cannot write output: no space left on device\n"
    );
    assert_eq!(output.status.code(), Some(8));
}

#[test]
fn keys_and_tickets_are_made() {
    let bench = Bench::new();
    let text = |line: &str| {
        let output = bench.run(line);
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (algorithm, first) in [("ed25519", "0f"), ("p256", "0d"), ("p384", "0e")] {
        let id = text(&format!(
            "p2ps-source keygen -o {algorithm} --algorithm {algorithm}"
        ));
        assert!(id.starts_with(first) && id.ends_with('\n'));
        let uri = text(&format!(
            "p2ps-source ticket --key {algorithm} --relay r1 --uri"
        ));
        assert_eq!(uri, format!("p2ps://{}@r1:7850\n", id.trim()));
        let word = text(&format!("p2ps-source ticket --key {algorithm} --relay r1"));
        assert!(word.starts_with("p2ps-ticket"));
        text(&format!("p2ps-peer --check-config {word}"));
    }
    bench.refuses(
        "p2ps-source keygen -o p256",
        "p2ps-source: cannot write key \"p256\": file exists",
        8,
    );
    assert!(text("p2ps-source keygen").starts_with("-----BEGIN PRIVATE KEY-----\n"));
}

#[test]
fn readiness_reaches_the_descriptor() {
    use std::io::{BufRead as _, BufReader};
    let bench = Bench::new();
    let line = format!(
        "exec {} --listen 127.0.0.1:0 --ready-fd 3 3>&1 1>/dev/null",
        program("p2ps-tracker")
    );
    let mut command = bench.command("sh");
    let mut child = command
        .args(["-c", &line])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    // The descriptor is closed behind the line, whether or not the program goes on.
    assert!(lines.next().is_none());
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn a_dry_run_leaves_nothing_behind() {
    let bench = Bench::new();
    for line in [
        "p2ps-source --channel film -i word --listen 127.0.0.1:0 --state-dir st --pid-file pid --dry-run",
        "p2ps-relay p2ps://t1/film --listen 127.0.0.1:0 --pid-file pid --dry-run",
        // Without a tracker there is nobody to ask.
        "p2ps-peer p2ps://0f2525252525252525252525252525252525252525252525252525252525252525@127.0.0.1:9 -o out.ts \
         --listen 127.0.0.1:0 --pid-file pid --dry-run",
        "p2ps-tracker --listen 127.0.0.1:0 --pid-file pid --dry-run",
    ] {
        let output = bench.run(line);
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{line}"
        );
    }
    for name in [".local", "st", "pid", "out.ts"] {
        assert!(!bench.path().join(name).exists(), "{name}");
    }
}

#[test]
fn bad_input_12_a_secret_as_plain_argument_is_refused_and_not_shown() {
    let bench = Bench::new();
    bench.file("open-token", "anna:s3cret\n", 0o644);
    bench.file("bad-token", "no-colon\n", 0o600);
    for (tool, rest) in [
        ("p2ps-peer", "p2ps://127.0.0.1/film -o out.ts"),
        ("p2ps-relay", "p2ps://127.0.0.1/film"),
        ("p2ps-source", "-i word --channel film"),
    ] {
        for (file, why) in [
            (
                "anna:s3cret",
                "bad --token-file: give a file or -, secrets on the command line are visible to others",
            ),
            (
                "open-token",
                "cannot use token \"open-token\": readable by others, chmod 600 it",
            ),
            ("./none", "cannot read token \"./none\": no such file"),
            (
                "bad-token",
                "cannot use token: need NAME:SECRET in one line",
            ),
        ] {
            let line = format!("{tool} {rest} --token-file {file}");
            bench.refuses(&line, &format!("{tool}: {why}"), 2);
        }
    }
}

#[test]
fn relays_that_ask_and_peers_that_answer() {
    let bench = Bench::new();
    bench.file("list", "", 0o644);
    bench.file("bad-list", "zz\n", 0o644);
    bench.file("film.ts", "here already", 0o644);
    for (line, expected, exit) in [
        (
            "p2ps-relay p2ps://127.0.0.1/film --record new.ts",
            "p2ps-relay: --record without --ask: say whom to ask",
            2,
        ),
        (
            "p2ps-relay p2ps://127.0.0.1/a p2ps://127.0.0.1/b --ask list --record new.ts",
            "p2ps-relay: 2 channels: --record takes one",
            2,
        ),
        (
            "p2ps-relay p2ps://127.0.0.1/film --ask list --output copy.ts",
            "p2ps-relay: --ask and --output exclude each other",
            2,
        ),
        (
            "p2ps-relay p2ps://127.0.0.1/film --ask list --record -",
            "p2ps-relay: bad --record \"-\": need the name of a file",
            2,
        ),
        (
            "p2ps-relay p2ps://127.0.0.1/film --ask bad-list",
            "p2ps-relay: cannot read \"bad-list\": line 1: bad key \"zz\": not hexadecimal at character 1",
            2,
        ),
        (
            "p2ps-relay p2ps://127.0.0.1/film --ask list --record film.ts",
            "p2ps-relay: cannot open \"film.ts\": file exists",
            8,
        ),
        (
            "p2ps-relay p2ps://127.0.0.1/film --ask list --record nowhere/film.ts",
            "p2ps-relay: cannot open \"nowhere/film.ts\": no such file",
            8,
        ),
        (
            "p2ps-peer p2ps://127.0.0.1/film --answer dance",
            "p2ps-peer: bad --answer \"dance\": need watch, record or ignore",
            2,
        ),
    ] {
        bench.refuses(line, expected, exit);
    }
    assert!(!bench.path().join("new.ts").exists());
}

#[test]
fn s_51_our_own_key_is_made_once_and_only_for_us() {
    let bench = Bench::new();
    bench.file("list", "", 0o644);
    bench.file("bad-list", "zz\n", 0o644);
    bench.refuses(
        "p2ps-relay p2ps://127.0.0.1/film --allow bad-list",
        "p2ps-relay: cannot read \"bad-list\": line 1: bad key \"zz\": not hexadecimal at character 1",
        2,
    );
    let key = bench.path().join(".local/state/p2ps/peer.key");
    assert!(!key.exists(), "not needed, not made");
    // Stops at the port, with its key made.
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let line = format!("p2ps-relay p2ps://127.0.0.1/film --allow list --listen {address}");
    let used = format!("p2ps-relay: cannot bind {address}: address in use (try --listen :0)");
    assert_eq!(bench.run(&line).status.code(), Some(7), "{used}");
    let mode = fs::metadata(&key).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = fs::read(&key).unwrap();
    assert_eq!(bench.run(&line).status.code(), Some(7));
    assert_eq!(fs::read(&key).unwrap(), first, "made once");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        bench.run(&line).status.code(),
        Some(2),
        "others can read it"
    );
    fs::remove_file(&key).unwrap();
    symlink(bench.path().join("good.pem"), &key).unwrap();
    assert_eq!(bench.run(&line).status.code(), Some(2), "a link");
}
