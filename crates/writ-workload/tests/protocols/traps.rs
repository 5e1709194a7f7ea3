//! What others already paid for.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use writ_gate::limits;
use writ_workload::{BindError, Server};

use crate::world::{PATIENCE, World, entitled, soon};

fn python(script: &str, args: &[&str]) -> Child {
    let child = Command::new("python3").arg("-c").arg(script).args(args).stdout(Stdio::piped()).spawn();
    child.unwrap()
}

fn line(child: &mut Child) -> BufReader<std::process::ChildStdout> {
    BufReader::new(child.stdout.take().unwrap())
}

/// The trap row "peer pid reused between accept and inspection", in a pid namespace of its own where a pid can be
/// reused at will: a process connects and ends, the next one gets its pid and an identity, and only then does the
/// daemon look at the connection.
#[test]
fn a_pid_that_is_reused_between_accept_and_inspection_names_nobody() {
    const INSIDE: &str = "WRIT_TEST_INSIDE_PID_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(reused_pid());
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a pid namespace needs root");
        return;
    }
    let name = "traps::a_pid_that_is_reused_between_accept_and_inspection_names_nobody";
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}

async fn reused_pid() {
    let mut world = World::new().await;
    // Nobody accepts for now: connections wait in the kernel.
    world.serving.take().unwrap().abort();
    std::fs::remove_file(world.socket()).unwrap();
    let waiting = Server::bind(&world.socket()).unwrap();
    // The first one leaves its socket to a child, so that the connection outlives it.
    let first = "import os,socket,sys
s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
if os.fork():
    os._exit(0)
print(os.getppid(), flush=True)
s.settimeout(30)
try: print('closed' if s.recv(1) == b'' else 'answered', flush=True)
except ConnectionError: print('closed', flush=True)
";
    let socket = world.socket().display().to_string();
    let mut first = python(first, &[&socket]);
    let pid = first.id();
    let mut said = line(&mut first).lines();
    first.wait().unwrap();
    said.next().unwrap().unwrap();
    // Its pid is given to another process, which has an identity.
    let heir = "import os,sys
open('/proc/sys/kernel/ns_last_pid','w').write(str(int(sys.argv[1])-1))
pid=os.fork()
if pid == 0:
    sys.stdin.read(); os._exit(0)
print(pid, flush=True); os.waitpid(pid, 0)
";
    let heir = Command::new("python3")
        .args(["-c", heir, &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut heir = heir.unwrap();
    let mut told = line(&mut heir).lines();
    assert_eq!(told.next().unwrap().unwrap(), pid.to_string(), "the pid is reused");
    world.processes.entitle(pid, &[entitled("coder", 1)]);
    let serving = tokio::spawn(waiting.serve(world.parts.clone(), world.stop.clone()));
    let begun = std::time::Instant::now();
    let answer = tokio::task::spawn_blocking(move || said.next().unwrap().unwrap());
    assert_eq!(soon("an answer", answer).await.unwrap(), "closed");
    assert!(begun.elapsed() < limits::WORKLOAD_HELLO_TIMEOUT / 2, "refused, and not only left alone");
    drop(heir.stdin.take());
    heir.wait().unwrap();
    world.stop.cancel();
    soon("the end", serving).await.unwrap();
}

/// A connection is its process's: a child that kept the socket hears nothing any more.
#[tokio::test]
async fn a_connection_ends_with_the_process_that_made_it() {
    let world = World::new().await;
    let script = "import os,socket,sys
s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes([0,0,0,4,0,0,0,0,0]))
assert s.recv(1) != b''
print('served', flush=True)
if os.fork():
    sys.stdin.readline(); os._exit(0)
s.settimeout(30)
try:
    while s.recv(4096): pass
except ConnectionError: pass
print('closed', flush=True)
";
    let socket = world.socket().display().to_string();
    let mut process = Command::new("python3")
        .args(["-c", script, &socket])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    world.processes.entitle(process.id(), &[entitled("coder", 1)]);
    let mut said = line(&mut process).lines();
    let (first, mut said) =
        tokio::task::spawn_blocking(move || (said.next().unwrap().unwrap(), said)).await.unwrap();
    assert_eq!(first, "served");
    let begun = std::time::Instant::now();
    drop(process.stdin.take());
    process.wait().unwrap();
    let last = tokio::task::spawn_blocking(move || said.next().unwrap().unwrap());
    assert_eq!(soon("the end", last).await.unwrap(), "closed");
    // Not because it fell silent, but because the process is gone.
    assert!(begun.elapsed() < limits::WORKLOAD_HELLO_TIMEOUT / 2);
}

/// Others must not be able to put a socket of their own in the place of ours.
#[tokio::test]
async fn a_folder_where_others_can_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workload.sock");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(matches!(Server::bind(&path), Err(BindError::Exposed(_))));
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let _server = Server::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let _second = Server::bind(&path).map(drop).unwrap_err();
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(Server::bind(&folder.path().join("file")), Err(BindError::NoSocket(_))));
}

/// A peer that connects and says nothing does not stay.
#[tokio::test]
async fn a_silent_connection_is_closed() {
    let world = World::new().await;
    let mut socket = tokio::net::UnixStream::connect(world.socket()).await.unwrap();
    let mut said = Vec::new();
    // The server's settings come first; the end must come.
    let read = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut said);
    let _ended = tokio::time::timeout(PATIENCE, read).await.expect("the connection is closed");
    assert!(said.len() < 256, "nothing but settings");
}
