//! What a runtime says of a container: over its API socket (Docker, Podman), or from the files it keeps.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use writ_gate::limits;

use super::Runtimes;
use super::layout::{Place, Runtime};
use crate::attest::http::{self, Server};

/// A container, described.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Description {
    pub(super) name: Option<String>,
    pub(super) image: Option<String>,
    /// `sha256:` and hex.
    pub(super) image_id: Option<String>,
    /// `sha256:` and hex, each.
    pub(super) digests: Vec<String>,
    /// `None` if they are kept where they cannot be read.
    pub(super) labels: Option<BTreeMap<String, String>>,
}

/// Asks the runtime that made the container. An error says what was missing, without any value.
pub(super) fn ask(runtimes: &Runtimes, place: &Place) -> Result<Description, String> {
    let id = &place.id;
    let described = match place.runtime {
        Runtime::Docker => {
            engine(&runtimes.docker_socket, id).or_else(|| docker_files(&runtimes.docker_folder, id))
        }
        Runtime::Podman => engine(&runtimes.podman_socket, id).or_else(|| storage(runtimes, id)),
        Runtime::Crio => storage(runtimes, id),
        Runtime::Containerd => containerd(&runtimes.containerd_folder, id),
    };
    described.ok_or_else(|| format!("{} does not answer for its container", place.runtime.as_str()))
}

/// Docker Engine API, `ContainerList` and `ImageInspect`; Podman speaks it too. Docker lists a container while it is being
/// started; `ContainerInspect` would wait until it was.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    names: Vec<String>,
    image: Option<String>,
    #[serde(rename = "ImageID")]
    image_id: String,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedImage {
    repo_digests: Option<Vec<String>>,
}

fn engine(socket: &Path, id: &str) -> Option<Description> {
    let server = Server::Unix(socket.to_owned());
    // {"id":["..."]}, where a prefix of the id would do as well.
    let question = format!("/containers/json?all=true&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D");
    let listed: Vec<Listed> = http::get_json(&server, &question, None).ok()?;
    let container = listed.into_iter().find(|container| container.id == id)?;
    let image_id = prefixed(&container.image_id);
    let image: Option<InspectedImage> =
        http::get_json(&server, &format!("/images/{image_id}/json"), None).ok();
    let digests = image.and_then(|image| image.repo_digests).unwrap_or_default();
    Some(Description {
        name: container.names.first().map(|name| name.trim_start_matches('/').to_owned()),
        image: container.image,
        image_id: Some(image_id),
        digests: digests.iter().filter_map(|reference| digest_of(reference)).collect(),
        labels: Some(container.labels.unwrap_or_default()),
    })
}

/// `config.v2.json` of a container, and `repositories.json` of a storage driver.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerFile {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    image: String,
    config: DockerConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    image: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerRepositories {
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

fn docker_files(folder: &Path, id: &str) -> Option<Description> {
    let file: DockerFile = read_json(&folder.join("containers").join(id).join("config.v2.json"))?;
    if file.id != id {
        return None;
    }
    let image_id = prefixed(&file.image);
    let drivers = std::fs::read_dir(folder.join("image")).into_iter().flatten().flatten();
    let repositories = drivers
        .filter_map(|driver| read_json::<DockerRepositories>(&driver.path().join("repositories.json")));
    let references = repositories.flat_map(|found| found.repositories.into_values().flatten());
    let digests = references.filter(|(_, image)| *image == image_id).filter_map(|(name, _)| digest_of(&name));
    Some(Description {
        name: Some(file.name.trim_start_matches('/').to_owned()),
        image: file.config.image,
        digests: digests.collect(),
        image_id: Some(image_id),
        labels: Some(file.config.labels.unwrap_or_default()),
    })
}

/// One entry of containers-storage's `containers.json`; its metadata is JSON in a string.
#[derive(Deserialize)]
struct StoredContainer {
    id: String,
    image: Option<String>,
    names: Option<Vec<String>>,
    metadata: Option<String>,
}

#[derive(Deserialize)]
struct StoredMetadata {
    #[serde(rename = "image-name")]
    image_name: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct StoredImage {
    id: String,
    digest: Option<String>,
    names: Option<Vec<String>>,
}

fn storage(runtimes: &Runtimes, id: &str) -> Option<Description> {
    let (kept, run) = (&runtimes.storage_folder, &runtimes.storage_run_folder);
    let lists = [
        kept.join("overlay-containers/containers.json"),
        kept.join("overlay-containers/volatile-containers.json"),
        run.join("overlay-containers/volatile-containers.json"),
    ];
    let all = lists.iter().filter_map(|list| read_json::<Vec<StoredContainer>>(list)).flatten();
    let container = all.into_iter().find(|container| container.id == id)?;
    let metadata = container.metadata.and_then(|text| serde_json::from_str::<StoredMetadata>(&text).ok());
    let (image_name, name) = metadata.map_or((None, None), |about| (about.image_name, about.name));
    let images: Option<Vec<StoredImage>> = read_json(&kept.join("overlay-images/images.json"));
    let images = images.unwrap_or_default();
    let image = images.iter().find(|image| Some(&image.id) == container.image.as_ref());
    let references = image.iter().flat_map(|image| image.names.iter().flatten());
    let mut digests: Vec<String> = references.filter_map(|name| digest_of(name)).collect();
    digests.extend(image.and_then(|image| image.digest.clone()));
    // CRI-O keeps labels with the container's specification, Podman in a database of its own.
    let spec: Option<Spec> = [kept, run]
        .iter()
        .find_map(|at| read_json(&at.join(format!("overlay-containers/{id}/userdata/config.json"))));
    let labels =
        spec.and_then(|spec| serde_json::from_str(spec.annotations.get("io.kubernetes.cri-o.Labels")?).ok());
    Some(Description {
        name: name.or_else(|| container.names?.into_iter().next()),
        image: image_name.or_else(|| image?.names.as_ref()?.first().cloned()),
        image_id: container.image.as_deref().map(prefixed),
        digests,
        labels,
    })
}

/// The OCI specification of a container: only its annotations.
#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// containerd's task folder. Its image store is a database of its own; the image's name, and its digest where the name
/// has one, are among the annotations.
fn containerd(folder: &Path, id: &str) -> Option<Description> {
    let tasks = folder.join("io.containerd.runtime.v2.task");
    let namespaces: Vec<PathBuf> =
        std::fs::read_dir(tasks).ok()?.flatten().map(|entry| entry.path()).collect();
    let spec: Spec =
        namespaces.iter().find_map(|namespace| read_json(&namespace.join(id).join("config.json")))?;
    let one = |names: [&str; 2]| names.iter().find_map(|name| spec.annotations.get(*name).cloned());
    let image = one(["io.kubernetes.cri.image-name", "nerdctl/image"]);
    Some(Description {
        name: one(["io.kubernetes.cri.container-name", "nerdctl/name"]),
        digests: image.as_deref().and_then(digest_of).into_iter().collect(),
        image,
        image_id: None,
        labels: Some(spec.annotations),
    })
}

fn prefixed(id: &str) -> String {
    if id.starts_with("sha256:") { id.to_owned() } else { format!("sha256:{id}") }
}

/// The digest in `repository@sha256:HEX`.
pub(in crate::attest) fn digest_of(reference: &str) -> Option<String> {
    reference
        .rsplit_once('@')
        .map(|(_, digest)| digest.to_owned())
        .filter(|digest| digest.starts_with("sha256:"))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(limits::RUNTIME_ANSWER_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;

    use super::*;

    pub(crate) const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Runtimes that are not there.
    pub(crate) fn nowhere(below: &Path) -> Runtimes {
        Runtimes {
            docker_socket: below.join("docker.sock"),
            docker_folder: below.join("docker"),
            podman_socket: below.join("podman.sock"),
            storage_folder: below.join("storage"),
            storage_run_folder: below.join("storage-run"),
            containerd_folder: below.join("containerd"),
        }
    }

    /// Answers for one container and its image as Docker does (parts that are not read left out), then ends. Gives how many
    /// questions there were.
    pub(crate) fn docker(socket: &Path) -> JoinHandle<usize> {
        let image = format!("sha256:{}", "1".repeat(64));
        let container = serde_json::json!([{
            "Id": ID, "Created": 1_767_225_600, "Names": ["/coder"], "ImageID": image, "State": "created",
            "Image": "registry.example/coder:1", "Labels": {"team": "platform"},
        }]);
        let digest = format!("registry.example/coder@sha256:{}", "2".repeat(64));
        let about = serde_json::json!({"Id": image, "RepoDigests": [digest]});
        let answers = [
            (
                format!("GET /containers/json?all=true&filters=%7B%22id%22%3A%5B%22{ID}%22%5D%7D "),
                container.to_string(),
            ),
            (format!("GET /images/{image}/json "), about.to_string()),
        ];
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            for (number, (question, answer)) in answers.iter().enumerate() {
                let (mut stream, _) = listener.accept().unwrap();
                let lines: Vec<String> = BufReader::new(&stream)
                    .lines()
                    .map(Result::unwrap)
                    .take_while(|line| !line.is_empty())
                    .collect();
                assert!(lines[0].starts_with(question), "question {number}: {}", lines[0]);
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
                write!(stream, "{head}{:x}\r\n{answer}\r\n0\r\n\r\n", answer.len()).unwrap();
            }
            answers.len()
        })
    }

    fn put(path: &Path, json: &serde_json::Value) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        writ_host::durable::replace(path, json.to_string().as_bytes(), 0o600).unwrap();
    }

    fn place(runtime: Runtime) -> Place {
        Place { id: ID.to_owned(), runtime, rootless: false, pod: None }
    }

    #[test]
    fn dockers_files_say_the_same_where_its_socket_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let runtimes = nowhere(dir.path());
        let image = format!("sha256:{}", "1".repeat(64));
        let digest = format!("sha256:{}", "2".repeat(64));
        put(
            &runtimes.docker_folder.join("containers").join(ID).join("config.v2.json"),
            &serde_json::json!({"ID": ID, "Name": "/coder", "Image": image,
                "Config": {"Image": "coder:1", "Labels": {"a": "b"}}}),
        );
        let (tag, pinned) = ("coder:1", format!("coder@{digest}"));
        put(
            &runtimes.docker_folder.join("image/overlay2/repositories.json"),
            &serde_json::json!({"Repositories": {"coder": {tag: image, pinned: image, "coder@sha256:99": "sha256:other"}}}),
        );
        let described = ask(&runtimes, &place(Runtime::Docker)).unwrap();
        assert_eq!(described.digests, [digest]);
        assert_eq!((described.name.as_deref(), described.image_id), (Some("coder"), Some(image)));
    }

    #[test]
    fn podman_and_crio_are_read_from_their_storage() {
        let dir = tempfile::tempdir().unwrap();
        let runtimes = nowhere(dir.path());
        let (image, digest) = ("1".repeat(64), format!("sha256:{}", "2".repeat(64)));
        let metadata = serde_json::json!({"image-name": "localhost/coder:1", "name": "coder"}).to_string();
        put(
            &runtimes.storage_folder.join("overlay-containers/containers.json"),
            &serde_json::json!([{"id": "other"}, {"id": ID, "image": image, "names": ["x"], "metadata": metadata}]),
        );
        put(
            &runtimes.storage_folder.join("overlay-images/images.json"),
            &serde_json::json!([{"id": image, "digest": digest, "names": ["localhost/coder:1"]}]),
        );
        put(
            &runtimes.storage_folder.join(format!("overlay-containers/{ID}/userdata/config.json")),
            &serde_json::json!({"annotations": {"io.kubernetes.cri-o.Labels": "{\"app\":\"coder\"}"}}),
        );
        for runtime in [Runtime::Podman, Runtime::Crio] {
            let described = ask(&runtimes, &place(runtime)).unwrap();
            assert_eq!(described.name.as_deref(), Some("coder"));
            assert_eq!(described.image.as_deref(), Some("localhost/coder:1"));
            assert_eq!(described.image_id, Some(format!("sha256:{image}")));
            assert_eq!(described.digests, std::slice::from_ref(&digest));
            assert_eq!(described.labels.unwrap()["app"], "coder");
        }
    }

    #[test]
    fn containerd_is_read_from_its_tasks() {
        let dir = tempfile::tempdir().unwrap();
        let runtimes = nowhere(dir.path());
        let digest = format!("sha256:{}", "2".repeat(64));
        let image = format!("registry.example/coder@{digest}");
        put(
            &runtimes
                .containerd_folder
                .join("io.containerd.runtime.v2.task/k8s.io")
                .join(ID)
                .join("config.json"),
            &serde_json::json!({"annotations": {"io.kubernetes.cri.image-name": image, "io.kubernetes.cri.container-name": "main"}}),
        );
        let described = ask(&runtimes, &place(Runtime::Containerd)).unwrap();
        assert_eq!((described.name.as_deref(), described.image), (Some("main"), Some(image)));
        assert_eq!(described.digests, [digest]);
        assert!(ask(&runtimes, &Place { id: "f".repeat(64), ..place(Runtime::Containerd) }).is_err());
    }

    #[test]
    fn an_answer_about_another_container_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let runtimes = nowhere(dir.path());
        put(
            &runtimes.docker_folder.join("containers").join(ID).join("config.v2.json"),
            &serde_json::json!({"ID": "other", "Name": "/coder", "Image": "sha256:1", "Config": {"Image": "c"}}),
        );
        assert!(ask(&runtimes, &place(Runtime::Docker)).is_err());
    }
}
