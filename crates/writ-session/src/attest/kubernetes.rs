//! The pod: its uid and container from the cgroup, the rest from the kubelet's list of this node's pods.
//!
//! The kubelet is asked over TLS with a certificate that must verify against the given CA. Container and pod must both be
//! those of the cgroup. What it said of a container is kept, so a label that a pod gets later is not seen; its namespace,
//! service account and image cannot change while the container lives. Static pods have their uid in an annotation.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::header::HeaderValue;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use writ_core::Attestor;
use writ_core::selector::Key;
use writ_gate::limits;

use super::container::Place;
use super::http::{self, Server};
use super::{Attest, Facts, Subject, Unknown, cgroup};

/// How to ask the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubelet {
    /// Where it listens: port 10250 of the node.
    pub address: SocketAddr,
    /// The name in its certificate.
    pub server_name: String,
    /// The CA of its certificate, PEM.
    pub ca_file: PathBuf,
    /// A service account's token that may `get` `nodes/proxy`; read for each question, because it rotates.
    pub token_file: PathBuf,
}

/// The attestor.
#[derive(Debug)]
pub(super) struct Pods {
    kubelet: Option<Kubelet>,
    known: Mutex<HashMap<String, Arc<Container>>>,
}

/// How often a container is looked for, which the kubelet lists a moment after it started.
const TRIES: usize = 5;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Deserialize)]
struct PodList {
    items: Vec<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    service_account_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "containerStatuses")]
    main: Vec<ContainerStatus>,
    #[serde(rename = "initContainerStatuses")]
    init: Vec<ContainerStatus>,
    #[serde(rename = "ephemeralContainerStatuses")]
    ephemeral: Vec<ContainerStatus>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    #[serde(default, rename = "containerID")]
    container_id: String,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "imageID")]
    image_id: String,
}

/// One container with its pod.
#[derive(Debug)]
struct Container {
    namespace: String,
    account: String,
    pod: String,
    uid: String,
    labels: BTreeMap<String, String>,
    name: String,
    images: Vec<String>,
    digests: Vec<String>,
}

impl Pods {
    pub(super) fn new(kubelet: Option<Kubelet>) -> Self {
        Self { kubelet, known: Mutex::default() }
    }

    fn say(&self, cgroup: &str, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        let Some(place) = Place::parse(cgroup) else { return Ok(()) };
        let Some(uid) = place.pod.as_deref().filter(|_| !place.rootless) else { return Ok(()) };
        facts.add(Key::KubernetesPodUid, uid);
        let kubelet =
            self.kubelet.as_ref().ok_or_else(|| unknown("it is in a pod, and no kubelet is set up"))?;
        let found = self.container(kubelet, uid, &place.id)?;
        let single = [
            (Key::KubernetesNs, &found.namespace),
            (Key::KubernetesSa, &found.account),
            (Key::KubernetesPod, &found.pod),
            (Key::KubernetesPodUid, &found.uid),
            (Key::KubernetesContainer, &found.name),
        ];
        for (key, value) in single {
            facts.add(key, value);
        }
        for image in &found.images {
            facts.add(Key::KubernetesImage, image);
        }
        for digest in &found.digests {
            facts.add(Key::KubernetesImageDigest, digest);
        }
        for (name, value) in &found.labels {
            facts.add(Key::KubernetesLabel, &format!("{name}={value}"));
        }
        Ok(())
    }

    fn container(&self, kubelet: &Kubelet, uid: &str, id: &str) -> Result<Arc<Container>, Unknown> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(id) {
            return Ok(Arc::clone(found));
        }
        let server = kubelet.server()?;
        for attempt in 0..TRIES {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            let token = kubelet.token()?;
            let list: PodList = http::get_json(&server, "/pods", Some(&token))
                .map_err(|error| unknown(&format!("the kubelet was asked in vain: {error}")))?;
            let Some(found) = find(&list, uid, id) else { continue };
            let found = Arc::new(found);
            let mut known = known();
            if known.len() >= limits::CONTAINERS_MAX
                && let Some(one) = known.keys().next().cloned()
            {
                known.remove(&one);
            }
            known.insert(id.to_owned(), Arc::clone(&found));
            return Ok(found);
        }
        Err(unknown("the kubelet lists no such container"))
    }
}

impl Kubelet {
    fn server(&self) -> Result<Server, Unknown> {
        let mut roots = RootCertStore::empty();
        let authorities = rustls::pki_types::CertificateDer::pem_file_iter(&self.ca_file)
            .map_err(|_| unknown("the kubelet's CA cannot be read"))?;
        for authority in authorities {
            let authority = authority.map_err(|_| unknown("the kubelet's CA is no PEM"))?;
            roots.add(authority).map_err(|_| unknown("the kubelet's CA is no certificate"))?;
        }
        let name = ServerName::try_from(self.server_name.clone())
            .map_err(|_| unknown("the kubelet's name is no name of a server"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| unknown("TLS is not available"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Server::Tls { address: self.address, name, config: Arc::new(config) })
    }

    fn token(&self) -> Result<HeaderValue, Unknown> {
        let text = std::fs::read_to_string(&self.token_file)
            .map_err(|_| unknown("the token for the kubelet cannot be read"))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
            .map_err(|_| unknown("the token for the kubelet is none"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl Attest for Pods {
    fn attestor(&self) -> Attestor {
        Attestor::Kubernetes
    }

    fn attest(&self, subject: &Subject<'_>, facts: &mut Facts<'_>) -> Result<(), Unknown> {
        let path = cgroup::of(subject.peer).map_err(|what| unknown(&what))?;
        self.say(&path, facts)
    }
}

fn find(list: &PodList, uid: &str, id: &str) -> Option<Container> {
    let annotated = |pod: &Pod| {
        ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"]
            .iter()
            .any(|name| pod.metadata.annotations.get(*name).is_some_and(|hash| hash == uid))
    };
    let pod = list.items.iter().find(|pod| pod.metadata.uid == uid || annotated(pod))?;
    let status = &pod.status;
    let all = status.main.iter().chain(&status.init);
    // `containerd://ID`.
    let has_id =
        |one: &&ContainerStatus| one.container_id.rsplit_once("://").is_some_and(|(_, own)| own == id);
    let container = all.chain(&status.ephemeral).find(has_id)?;
    let digest = super::container::digest_of(&container.image_id)
        .or_else(|| container.image_id.starts_with("sha256:").then(|| container.image_id.clone()));
    Some(Container {
        namespace: pod.metadata.namespace.clone(),
        account: pod.spec.service_account_name.clone(),
        pod: pod.metadata.name.clone(),
        uid: uid.to_owned(),
        labels: pod.metadata.labels.clone(),
        name: container.name.clone(),
        images: vec![container.image.clone()],
        digests: digest.into_iter().collect(),
    })
}

fn unknown(what: &str) -> Unknown {
    Unknown { attestor: Attestor::Kubernetes, what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::path::Path;
    use std::thread::JoinHandle;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::super::conformance;
    use super::super::facts::Wanted;
    use super::*;

    const ID: &str = "4f1c8b2a9d3e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8";
    const UID: &str = "7d2a0f3e-5f0b-4c7a-9a53-0d9f6f1e2b3c";
    const TOKEN: &str = "token-of-the-node";
    /// `GET /pods` of a kubelet 1.31 with containerd, names changed.
    const PODS: &str = include_str!("kubernetes/pods.json");

    /// A kubelet that answers as often as asked for, with a certificate of its own. Gives the questions' heads.
    fn kubelet(dir: &Path, answers: Vec<&'static str>) -> (Kubelet, JoinHandle<Vec<String>>) {
        let made = rcgen::generate_simple_self_signed(["node.example".to_owned()]).unwrap();
        let write = |name: &str, text: &str| {
            writ_host::durable::replace(&dir.join(name), text.as_bytes(), 0o600).unwrap();
            dir.join(name)
        };
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubelet = Kubelet {
            address: listener.local_addr().unwrap(),
            server_name: "node.example".to_owned(),
            ca_file: write("ca.pem", &made.cert.pem()),
            token_file: write("token", &format!("{TOKEN}\n")),
        };
        let config = Arc::new(config);
        let served = std::thread::spawn(move || {
            let answer = |body: &'static str| {
                let (stream, _) = listener.accept().unwrap();
                let mut stream =
                    StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
                let mut head = String::new();
                let mut reader = BufReader::new(&mut stream);
                while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
                let length = body.len();
                drop(write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"));
                drop(stream.flush());
                head
            };
            answers.into_iter().map(answer).collect()
        });
        (kubelet, served)
    }

    fn said(pods: &Pods, cgroup: &str) -> (Vec<String>, Option<String>) {
        let (wanted, mut selectors) = (Wanted::everything(), BTreeSet::new());
        let mut facts = Facts::new(Attestor::Kubernetes, &wanted, &mut selectors);
        let unknown = pods.say(cgroup, &mut facts).err().map(|unknown| unknown.what);
        (selectors.iter().map(ToString::to_string).collect(), unknown)
    }

    fn cgroup(uid: &str, id: &str) -> String {
        let under = uid.replace('-', "_");
        format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{id}.scope"
        )
    }

    #[test]
    fn the_attestor_conforms() {
        conformance::check(&Pods::new(None));
    }

    #[test]
    fn a_pod_is_what_the_kubelet_says_of_its_cgroup() {
        let dir = tempfile::tempdir().unwrap();
        let (kubelet, served) = kubelet(dir.path(), vec![PODS]);
        let pods = Pods::new(Some(kubelet));
        let (facts, unknown) = said(&pods, &cgroup(UID, ID));
        assert_eq!(unknown, None);
        let digest = "9b2c1d0e8f7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c";
        let mut expected = vec![
            format!("k8s:container:coder"),
            format!("k8s:image-digest:sha256:{digest}"),
            "k8s:image:registry.example/agents/coder:1.4".to_owned(),
            "k8s:label:app=coder".to_owned(),
            "k8s:label:tier=agents".to_owned(),
            "k8s:ns:agents".to_owned(),
            format!("k8s:pod-uid:{UID}"),
            "k8s:pod:coder-6c9f7d5b8-x2x7k".to_owned(),
            "k8s:sa:coder".to_owned(),
        ];
        expected.sort();
        assert_eq!(facts, expected);
        assert_eq!(said(&pods, &cgroup(UID, ID)).0, facts, "asked once");
        let heads = served.join().unwrap();
        assert!(heads[0].starts_with("GET /pods HTTP/1.1\r\n"), "{}", heads[0]);
        assert!(heads[0].to_ascii_lowercase().contains(&format!("authorization: bearer {TOKEN}")));
    }

    #[test]
    fn a_container_that_the_kubelet_does_not_list_yet_is_waited_for_and_a_strangers_never_found() {
        let dir = tempfile::tempdir().unwrap();
        let (late, served) = kubelet(dir.path(), vec![r#"{"items":[]}"#, PODS]);
        assert_eq!(said(&Pods::new(Some(late)), &cgroup(UID, ID)).1, None);
        served.join().unwrap();
        // The container's id in another pod's cgroup.
        let (kubelet, served) = kubelet(dir.path(), vec![PODS; TRIES]);
        let other = UID.replace('7', "8");
        let (facts, unknown) = said(&Pods::new(Some(kubelet)), &cgroup(&other, ID));
        assert_eq!(facts, [format!("k8s:pod-uid:{other}")]);
        assert!(unknown.unwrap().contains("no such container"));
        served.join().unwrap();
    }

    #[test]
    fn a_kubelet_with_another_certificate_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (kubelet, served) = kubelet(dir.path(), vec![PODS]);
        let other = rcgen::generate_simple_self_signed(["node.example".to_owned()]).unwrap();
        writ_host::durable::replace(&kubelet.ca_file, other.cert.pem().as_bytes(), 0o600).unwrap();
        let (facts, unknown) = said(&Pods::new(Some(kubelet)), &cgroup(UID, ID));
        assert_eq!(facts.len(), 1);
        assert!(unknown.unwrap().contains("in vain"));
        assert!(!served.join().unwrap()[0].contains(TOKEN), "the token went to a stranger");
    }

    #[test]
    fn without_a_kubelet_a_pod_is_only_its_uid_and_other_processes_are_none() {
        let pods = Pods::new(None);
        let (facts, unknown) = said(&pods, &cgroup(UID, ID));
        assert_eq!((facts.len(), unknown.is_some()), (1, true));
        assert_eq!(said(&pods, "/system.slice/sshd.service"), (Vec::new(), None));
    }
}
