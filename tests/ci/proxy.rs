//! Behind a company's proxy and its own certificates.

use crate::common::forge_server::ForgeServer;
use crate::common::hub::{Job, clone_of, comment, on_github};
use crate::common::tls::TlsFront;
use crate::common::{ModelServer, Rule};
use crate::steps::{REVIEW, verdict};
use codeforge::model::forge::ForgeKind;

/// A company's proxy: it makes tunnels, and remembers where to.
struct Proxy {
    url: String,
    seen: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    async fn start() -> Self {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
        use tokio::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = std::sync::Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let noted = std::sync::Arc::clone(&noted);
                tokio::spawn(async move {
                    let mut socket = BufReader::new(socket);
                    let mut first = String::new();
                    socket.read_line(&mut first).await.unwrap();
                    let mut line = String::new();
                    while socket.read_line(&mut line).await.unwrap() > 2 {
                        line.clear();
                    }
                    let Some(place) = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
                        let _ = socket.write_all(b"HTTP/1.1 405 Only CONNECT\r\ncontent-length: 0\r\n\r\n").await;
                        return;
                    };
                    noted.lock().unwrap().push(place.to_owned());
                    let mut to = TcpStream::connect(place).await.unwrap();
                    socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    let _ = copy_bidirectional(&mut socket, &mut to).await;
                });
            }
        });
        Self { url, seen, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_companys_proxy_and_ca_everything_is_reached() {
    let server = ModelServer::start(vec![Rule::when().reply(verdict()).times(2)]).await;
    let forge =
        ForgeServer::with(ForgeKind::Github, &[(".codeforge/workflows/look.yml", REVIEW), ("src/a.txt", "one\n")])
            .await;
    forge.memory().members.insert("ann".into(), "write".into());
    let clone = clone_of(&forge, "refs/heads/main");
    let (model, api) = (TlsFront::of(server.url()).await, TlsFront::of(&forge.api()).await);
    let proxy = Proxy::start().await;
    let place = |front: &TlsFront| front.url().replace("https://", "").replace("/v1", "");
    // Two certificates that nobody has heard of, in one file.
    let bundle = clone.aside().join("ca.pem");
    let read = |front: &TlsFront| std::fs::read_to_string(front.certificate()).unwrap();
    std::fs::write(&bundle, format!("{}\n{}", read(&model), read(&api))).unwrap();
    let server_url = api.url().replace("/v1", "");
    let command = comment("/codeforge look", "ann");
    let job = || {
        on_github(&forge, &clone, "issue_comment", &command)
            .model(&model.url())
            .env("GITHUB_SERVER_URL", &server_url)
            .env("GITHUB_API_URL", &server_url)
            // A rerun: the trusted branch is fetched.
            .env("GITHUB_RUN_ATTEMPT", "2")
            .env("HTTPS_PROXY", &proxy.url)
            .env("CODEFORGE_EXTRA_CA", bundle.to_str().unwrap())
    };
    let run = |job: Job<'_>| tokio::task::block_in_place(|| job.run());
    run(job()).ends(0, "success");
    let seen = proxy.seen.lock().unwrap().clone();
    assert!(seen.contains(&place(&model)), "the model is asked through the proxy: {seen:?}");
    assert!(seen.iter().filter(|it| **it == place(&api)).count() >= 2, "so are the forge's API and git: {seen:?}");
    // What NO_PROXY names is reached directly.
    proxy.seen.lock().unwrap().clear();
    run(job().env("NO_PROXY", "127.0.0.1")).ends(0, "success");
    assert!(proxy.seen.lock().unwrap().is_empty());
    // Without the CA nothing is trusted, and a file that is none is said.
    run(job().without("CODEFORGE_EXTRA_CA")).ends(5, "unavailable").says(&["certificate"]);
    std::fs::write(&bundle, "no certificate\n").unwrap();
    run(job()).says(&["certificate"]);
    run(job().env("CODEFORGE_EXTRA_CA", "/no/such.pem")).says(&["CODEFORGE_EXTRA_CA", "/no/such.pem"]);
    server.finished();
}
