//! The OPC UA server: addresses, certificates, nodes, users.

use crate::methods::Call;
use crate::settings::Settings;
use crate::space::{self, Known, Names, OWN};
use crate::users::Users;
use crate::values::{Loader, NAMESPACE};
use crate::{ExitCode, Failure, station};
use faprompt_client::Client;
use opcua::core::sync::RwLock;
use opcua::crypto::SecurityPolicy;
use opcua::server::address_space::AddressSpace;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{
    InMemoryNodeManager, InMemoryNodeManagerBuilder, InMemoryNodeManagerImpl,
};
use opcua::server::node_manager::{MethodCall, RequestContext, ServerContext};
use opcua::server::{ANONYMOUS_USER_TOKEN_ID, ServerBuilder, ServerEndpoint};
use opcua::types::{BuildInfo, DateTime, Identifier, MessageSecurityMode, StatusCode};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

/// Sessions at a time.
const SESSIONS: usize = 32;

/// The instance's nodes.
struct Vision {
    names: Names,
    client: Arc<Client>,
    users: Arc<Users>,
    known: Arc<Mutex<Known>>,
}

#[async_trait::async_trait]
impl InMemoryNodeManagerImpl for Vision {
    // The nodes are there before: what asks the station may be quicker than the server.
    async fn init(&self, _: &mut AddressSpace, _: ServerContext) {}

    fn name(&self) -> &str {
        "vision"
    }

    fn namespaces(&self) -> Vec<NamespaceMetadata> {
        let one = |uri: &str, index| NamespaceMetadata {
            namespace_uri: uri.into(),
            namespace_index: index,
            ..Default::default()
        };
        vec![one(NAMESPACE, self.names.vision), one(OWN, self.names.own)]
    }

    async fn call(
        &self,
        context: &RequestContext,
        _: &RwLock<AddressSpace>,
        methods: &mut [&mut &mut MethodCall],
    ) -> Result<(), StatusCode> {
        for method in methods {
            let Identifier::String(path) = &method.method_id().identifier else {
                continue;
            };
            let path = path.as_ref().to_string();
            let (client, known) = (self.client.clone(), self.known.clone());
            let (user, arguments) = (self.users.of(&context.token), method.arguments().to_vec());
            // The station may take its time.
            let done = tokio::task::spawn_blocking(move || {
                let call = Call {
                    client: &client,
                    known: &known,
                    user,
                    arguments: &arguments,
                };
                call.run(&path)
            });
            match done.await {
                Ok(Ok(outputs)) => {
                    method.set_outputs(outputs);
                    method.set_status(StatusCode::Good);
                }
                Ok(Err(status)) => method.set_status(status),
                Err(_) => method.set_status(StatusCode::BadInternalError),
            }
        }
        Ok(())
    }
}

fn failed(code: ExitCode, text: impl std::fmt::Display) -> Failure {
    Failure(code, text.to_string())
}

/// The folder of certificates, which only this user may read; what is wrong with it is said before anything is begun.
fn folder(path: &Path) -> Result<(), Failure> {
    let wrong = |e: std::io::Error| {
        let shown = path.display();
        failed(
            ExitCode::OwnCertificate,
            format!("certificates: {shown}: {e}"),
        )
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(wrong)?;
    for name in ["own", "private", "trusted", "rejected"] {
        let path = path.join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(wrong)?;
    }
    Ok(())
}

/// The name by which clients reach this computer.
fn host(settings: &Settings) -> String {
    let given = settings.host.clone();
    given.unwrap_or_else(|| match settings.listen.ip() {
        ip if ip.is_unspecified() => gethostname::gethostname().to_string_lossy().into_owned(),
        ip => ip.to_string(),
    })
}

/// Serves until `stop` is set.
///
/// # Errors
/// Why it cannot begin, with the exit code.
pub async fn serve(
    settings: Settings,
    client: Client,
    stop: Arc<AtomicBool>,
) -> Result<(), Failure> {
    folder(&settings.certificates)?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|e| {
        let text = format!(
            "listen: {}: {e}: does another program serve there?",
            settings.listen
        );
        failed(ExitCode::Listen, text)
    })?;
    let port = listener
        .local_addr()
        .map_or(settings.listen.port(), |a| a.port());
    let client = Arc::new(client);
    let users = Arc::new(Users::new(client.clone(), &settings));
    let known = Arc::new(Mutex::new(Known::default()));
    let host = host(&settings);
    let vision = {
        let (client, users, known) = (client.clone(), users.clone(), known.clone());
        move |context: ServerContext, space: &mut AddressSpace| {
            let mut types = context.type_tree.write();
            let mut index = |uri: &str| {
                let index = types.namespaces_mut().add_namespace(uri);
                space.add_namespace(uri, index);
                index
            };
            let names = Names {
                vision: index(NAMESPACE),
                own: index(OWN),
            };
            space::insert(space, names);
            Vision {
                names,
                client,
                users,
                known,
            }
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    let mut builder = ServerBuilder::new()
        .application_name("faprompt-gateway")
        .application_uri(format!("urn:{host}:faprompt-gateway"))
        .product_uri("urn:faprompt-edge:gateway")
        .build_info(BuildInfo {
            product_uri: "urn:faprompt-edge:gateway".into(),
            manufacturer_name: "faprompt-edge developers".into(),
            product_name: "faprompt-gateway".into(),
            software_version: version.into(),
            build_number: version.into(),
            build_date: DateTime::null(),
        })
        .create_sample_keypair(true)
        .pki_dir(settings.certificates.clone())
        .trust_client_certs(false)
        .host(host.clone())
        .port(port)
        .discovery_urls(vec![format!("opc.tcp://{host}:{port}/")])
        .max_sessions(SESSIONS)
        .with_authenticator(users)
        .with_type_loader(Arc::new(Loader))
        .with_node_manager(InMemoryNodeManagerBuilder::new(vision));
    let encrypted = [
        SecurityPolicy::Basic256Sha256,
        SecurityPolicy::Aes256Sha256RsaPss,
    ];
    let mut endpoints: Vec<(&str, SecurityPolicy, MessageSecurityMode)> = encrypted
        .iter()
        .map(|policy| {
            (
                policy.to_str(),
                *policy,
                MessageSecurityMode::SignAndEncrypt,
            )
        })
        .collect();
    if settings.unencrypted {
        endpoints.push(("None", SecurityPolicy::None, MessageSecurityMode::None));
    }
    for (name, policy, mode) in endpoints {
        let tokens = [ANONYMOUS_USER_TOKEN_ID.to_string()];
        builder = builder.add_endpoint(name, ServerEndpoint::new("/", policy, mode, &tokens));
    }
    let made = builder.build().map_err(|e| failed(ExitCode::Config, e));
    let (server, handle) = made?;
    own_certificate(&settings.certificates)?;
    let manager = handle
        .node_managers()
        .get_of_type::<InMemoryNodeManager<Vision>>();
    let Some(manager) = manager else {
        return Err(failed(ExitCode::Internal, "the server has no nodes"));
    };
    log::info!(
        "OPC UA at opc.tcp://{host}:{port}/, station {}",
        settings.station.url
    );
    let (names, subscriptions) = (manager.inner().names, handle.subscriptions().clone());
    let asks = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            station::run(&client, &settings, &stop, |news| {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                known.take(news, names, &manager, &subscriptions);
            });
        })
    };
    let ends = async {
        while !stop.load(Ordering::Relaxed) && !asks.is_finished() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        handle.cancel();
        // Open connections are closed by then, or cut off.
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    let result = tokio::select! {
        result = server.run_with(listener) => result,
        () = ends => Ok(()),
    };
    if !stop.swap(true, Ordering::Relaxed) {
        let why = result
            .err()
            .unwrap_or_else(|| "what asks the station has ended".into());
        return Err(failed(ExitCode::Internal, why));
    }
    Ok(())
}

/// The library makes a certificate if there is none; without one nobody could connect.
fn own_certificate(folder: &Path) -> Result<(), Failure> {
    for file in ["own/cert.der", "private/private.pem"] {
        let path = folder.join(file);
        let read = std::fs::read(&path);
        let read = read.and_then(|_| {
            let mode = if file.starts_with("private") {
                0o600
            } else {
                0o644
            };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
        });
        read.map_err(|e| {
            let shown = path.display();
            failed(
                ExitCode::OwnCertificate,
                format!("certificates: {shown}: {e}"),
            )
        })?;
    }
    Ok(())
}
