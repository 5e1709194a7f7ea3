//! Unmodified clients, none of them told about a proxy, act on real servers through the whole path.

use writ_e2e::{World, python};

const ISSUES: &str = "https://forge.test/api/repos/acme/site/issues";

#[test]
fn curl_speaks_http1_and_http2() {
    let Some(world) = World::start("curl_speaks_http1_and_http2") else { return };
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let out =
            world.host.run("coder", ["curl", "-sS", flag, "-w", "%{http_code} %{http_version}", ISSUES]).ok();
        assert_eq!(out, format!("[]\n200 {version}"));
    }
    let closed = world.records("action.closed");
    assert_eq!(closed.len(), 2);
    for receipt in &closed {
        assert_eq!(receipt["outcome"], "completed");
        assert_eq!(receipt["status"], 200);
        assert_eq!(receipt["operation"], "forge/issues.list");
        assert_eq!(receipt["lease_fate"], "standing");
        assert!(receipt["lease"].is_string());
    }
    let intended = world.records("action.intended");
    assert_eq!(intended[0]["actor"]["human"], "unix:4242");
    assert_eq!(intended[0]["keys"]["agent"]["policies"][0], "coder-reads-and-writes");
    assert_eq!(intended[0]["keys"]["human"]["policies"][0], "humans-read-and-write");
    world.verify();
}

const JAVA: &str = r#"
import java.net.URI;
import java.net.http.*;
public class Fetch {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        var answer = client.send(HttpRequest.newBuilder(URI.create(arguments[0])).build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.version() + " " + answer.body().strip());
        var old = (java.net.HttpURLConnection) URI.create(arguments[0]).toURL().openConnection();
        System.out.println(old.getResponseCode());
    }
}
"#;

#[test]
fn java_works_by_its_new_client_and_by_its_old_one() {
    let Some(world) = World::start("java_works_by_its_new_client_and_by_its_old_one") else { return };
    let source = world.host.home().join("Fetch.java");
    writ_host::durable::replace(&source, JAVA.as_bytes(), 0o644).unwrap();
    let out = world.host.run("coder", ["java", source.to_str().unwrap(), ISSUES]).ok();
    assert_eq!(out, "200 HTTP_2 []\n200\n");
    world.verify();
}

#[test]
fn git_clones_and_pushes_over_smart_http() {
    let Some(world) = World::start("git_clones_and_pushes_over_smart_http") else { return };
    let script = "
        set -e
        git clone -q https://forge.test/acme/site.git work && cd work
        echo more >> README.md
        git -c user.name=a -c user.email=a@b commit -qam more
        git push -q origin main
        git rev-parse HEAD";
    let out = world.host.run("coder", ["sh", "-c", script]).ok();
    let head = std::process::Command::new("git")
        .args(["rev-parse", "main"])
        .current_dir(world.forge.repository())
        .output()
        .unwrap();
    assert_eq!(out, String::from_utf8_lossy(&head.stdout), "the forge has what was pushed");
    let operations: Vec<_> = world.records("action.closed").iter().map(|r| r["operation"].clone()).collect();
    assert!(
        operations.contains(&"forge/repo.fetch".into()) && operations.contains(&"forge/repo.push".into())
    );
    world.verify();
}

#[test]
fn python_requests_and_httpx_work() {
    let Some(world) = World::start("python_requests_and_httpx_work") else { return };
    let script = format!(
        "import httpx, requests
r = requests.post('{ISSUES}', json={{'title': 'one'}}); print(r.status_code, r.json()['number'])
with httpx.Client(http2=True) as c:
    r = c.get('{ISSUES}'); print(r.http_version, len(r.json()))
r = httpx.get('{ISSUES}'); print(r.http_version)"
    );
    let python = python();
    let out = world.host.run("coder", [python.as_os_str(), "-c".as_ref(), script.as_ref()]).ok();
    assert_eq!(out, "201 1\nHTTP/2 1\nHTTP/1.1\n");
}

#[test]
fn node_fetch_works() {
    let Some(world) = World::start("node_fetch_works") else { return };
    let script = format!("const r = await fetch('{ISSUES}'); console.log(r.status, await r.text())");
    let out = world.host.run("coder", ["node", "--input-type=module", "-e", &script]).ok();
    assert_eq!(out, "200 []\n\n");
}

#[test]
fn a_static_go_program_works() {
    let Some(world) = World::start("a_static_go_program_works") else { return };
    let source = world.host.path("client.go");
    let binary = world.host.path("client");
    let program = format!(
        r#"package main
import ("fmt"; "io"; "net/http")
func main() {{
    r, err := http.Get("{ISSUES}")
    if err != nil {{ panic(err) }}
    body, _ := io.ReadAll(r.Body)
    fmt.Print(r.Proto, " ", r.StatusCode, " ", string(body))
}}"#
    );
    std::io::Write::write_all(&mut std::fs::File::create(&source).unwrap(), program.as_bytes()).unwrap();
    let built = std::process::Command::new("go")
        .args(["build", "-o"])
        .arg(&binary)
        .arg(&source)
        .env("CGO_ENABLED", "0")
        .env("HOME", world.host.path(""))
        .status()
        .unwrap();
    assert!(built.success());
    let out = world.host.run("coder", [&binary]).ok();
    assert_eq!(out, "HTTP/2.0 200 []\n");
}
