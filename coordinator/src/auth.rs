//! Who may call: a token in every call, and the same version at both ends.
//!
//! Each role has a token, made at the first start. It lies in a file that only its owner can read and
//! is kept over restarts, so that workers come back by themselves; where the file was removed, the
//! next start draws another. Tokens are compared as hashes, in constant time.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use sweep_proto::{VERSION_HEADER, access::Access, fault::Fault, version};
use tonic::{Extensions, Request, Status, service::Interceptor};

use crate::{
    authority::{Authority, Signed},
    clients::{self, Revoked},
    connection::certificate_of,
    error::CoordinatorError,
    reach::Reach,
    role::Role,
};

/// 256 bits: nobody guesses them, so the hash needs no salt and no slowness.
const TOKEN_BYTES: usize = 32;

/// The access file of a role in a state folder.
pub(crate) fn access_path(state: &Path, role: Role) -> PathBuf {
    state.join(role.file())
}

/// The access files of a coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Accesses(Vec<(Role, Access)>);

impl Accesses {
    /// Writes one for each role; tokens of an earlier start are kept.
    pub(crate) fn make(state: &Path, reach: &Reach) -> Result<Self, CoordinatorError> {
        fs::create_dir_all(state).map_err(|source| {
            let path = access_path(state, Role::Operator);
            CoordinatorError::State { path, source }
        })?;
        let made = Role::ALL.map(|role| Ok((role, make_access(&access_path(state, role), reach)?)));
        let made: Vec<(Role, Access)> =
            made.into_iter().collect::<Result<_, CoordinatorError>>()?;
        for (place, (role, access)) in made.iter().enumerate() {
            let twin = made[..place].iter().find(|(_, earlier)| earlier.token == access.token);
            if let Some((earlier, _)) = twin {
                let (one, other) = (earlier.file(), role.file());
                return Err(CoordinatorError::SameToken { state: state.to_owned(), one, other });
            }
        }
        Ok(Self(made))
    }

    /// One for everything.
    #[cfg(feature = "simulation")]
    pub(crate) fn only(access: &Access) -> Self {
        Self(vec![(Role::Operator, access.clone())])
    }

    /// The one that opens everything.
    pub(crate) fn operator(&self) -> &Access {
        &self.0[0].1
    }
}

fn make_access(path: &Path, reach: &Reach) -> Result<Access, CoordinatorError> {
    let failed = |source| CoordinatorError::State { path: path.to_owned(), source };
    let token = match Access::read(path) {
        Ok(earlier) if is_token(&earlier.token) => earlier.token,
        _ => new_token()?,
    };
    let access = match reach {
        Reach::Machine(listener) => Access::plain(format!("http://{listener}"), token),
        Reach::Network(network) => Access {
            authority: Some(network.authority.clone()),
            identity: network.client.clone(),
            ..Access::plain(network.address.clone(), token)
        },
    };
    write_private(path, &access.to_json()).map_err(failed)?;
    Ok(access)
}

/// Writes the access file of a role anew for one client, with a certificate of its own.
pub(crate) fn write_client_access(
    state: &Path,
    name: &str,
    role: Role,
    out: &Path,
) -> Result<(), CoordinatorError> {
    let same = |own: &Path| {
        own.canonicalize().ok().is_some_and(|own| out.canonicalize().ok() == Some(own))
    };
    if Role::ALL.iter().any(|&own| same(&access_path(state, own))) {
        return Err(CoordinatorError::OwnAccess(out.to_owned()));
    }
    let access = Access::read(&access_path(state, role))
        .map_err(|source| CoordinatorError::NoAccess { source })?;
    if access.authority.is_none() {
        return Err(CoordinatorError::NotReached(state.to_owned()));
    }
    let Signed { identity, hash } = Authority::open(state)?.client(name)?;
    // Noted first: one that nobody can take back must not exist.
    clients::note(state, name, role, hash)?;
    write_private(out, &Access { identity: Some(identity), ..access }.to_json())
        .map_err(|source| CoordinatorError::State { path: out.to_owned(), source })
}

fn is_token(text: &str) -> bool {
    text.len() == 2 * TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn new_token() -> Result<String, CoordinatorError> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| CoordinatorError::Random(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Replaces a file at once by one that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let scratch = path.with_extension("new");
    // One that is left from a crash may be readable by others: it is made anew.
    match fs::remove_file(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&scratch)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&scratch, path)
}

/// Lets a call in, or says why not.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    tokens: Vec<(Role, blake3::Hash)>,
    revoked: Revoked,
    /// Who may pass.
    roles: &'static [Role],
    /// Callers must state our version.
    same_version: bool,
}

impl Gate {
    /// For the services of the project.
    pub(crate) fn new(accesses: &Accesses, revoked: Revoked) -> Self {
        let hash = |access: &Access| blake3::hash(access.token.as_bytes());
        let tokens = accesses.0.iter().map(|(role, access)| (*role, hash(access))).collect();
        Self { tokens, revoked, roles: &Role::ALL, same_version: true }
    }

    /// For these only.
    pub(crate) fn only(&self, roles: &'static [Role]) -> Self {
        Self { roles, ..self.clone() }
    }

    /// For services that every tool speaks.
    pub(crate) fn for_any_version(&self) -> Self {
        Self { same_version: false, ..self.clone() }
    }

    /// Whose token an `authorization` header holds.
    pub(crate) fn role(&self, authorization: Option<&str>) -> Option<Role> {
        let given = blake3::hash(authorization?.strip_prefix("Bearer ")?.as_bytes());
        // Hashes compare in constant time.
        self.tokens.iter().find(|(_, token)| *token == given).map(|(role, _)| *role)
    }

    /// Whether the holder of an `authorization` header and of a certificate may pass.
    pub(crate) fn admits(&self, authorization: Option<&str>, certificate: Option<&str>) -> bool {
        self.role(authorization).is_some_and(|role| self.roles.contains(&role))
            && self.revoked.check(certificate).is_ok()
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = |name: &str| request.metadata().get(name).and_then(|text| text.to_str().ok());
        let Some(role) = self.role(header("authorization")) else {
            let message = "the token is missing or wrong; hint: use the access file in the \
                           coordinator's state folder";
            return Err(Fault::Token.status(message));
        };
        if !self.roles.contains(&role) {
            return Err(refused(role, self.roles));
        }
        self.revoked.check(certificate_of(request.extensions()).as_deref())?;
        let (theirs, ours) = (header(VERSION_HEADER).unwrap_or("none"), version());
        if self.same_version && theirs != ours {
            let message = format!(
                "the caller has version {theirs}, the coordinator {ours}; hint: install the same \
                 version at both ends"
            );
            return Err(Fault::Version.status(message));
        }
        request.extensions_mut().insert(role);
        Ok(request)
    }
}

/// Lets only operators on, and says what they are; a call that came through no gate has no role.
pub(crate) fn operators_only(call: &Extensions) -> Result<Role, Status> {
    match call.get::<Role>() {
        Some(Role::Operator) => Ok(Role::Operator),
        Some(role) => Err(refused(*role, &[Role::Operator])),
        None => Err(Fault::Token.status("the call came through no gate")),
    }
}

fn refused(role: Role, roles: &[Role]) -> Status {
    let files: Vec<&str> = roles.iter().map(|role| role.file()).collect();
    let message = format!(
        "the token is that of a {role}, which does not open this call; hint: use {} of the \
         coordinator's state folder",
        files.join(" or ")
    );
    Fault::Role.status(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_files_are_private_and_keep_their_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("deep/state");
        let make = |address: &str| {
            Accesses::make(&state, &Reach::Machine(address.parse().unwrap())).unwrap()
        };
        let (first, second) = (make("127.0.0.1:1"), make("127.0.0.1:2"));
        assert_eq!(second.operator().address, "http://127.0.0.1:2");
        for (place, role) in Role::ALL.into_iter().enumerate() {
            let path = access_path(&state, role);
            assert_eq!(first.0[place].1.token, second.0[place].1.token, "{role}");
            assert_eq!(Access::read(&path).unwrap(), second.0[place].1);
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt as _;
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
        }
        // One token for two roles would make the holder of the lesser one of the greater.
        let (operator, reader) =
            (access_path(&state, Role::Operator), access_path(&state, Role::Reader));
        let kept = fs::read(&reader).unwrap();
        fs::copy(&operator, &reader).unwrap();
        let twin = Accesses::make(&state, &Reach::Machine("127.0.0.1:1".parse().unwrap()));
        assert!(matches!(twin, Err(CoordinatorError::SameToken { .. })), "{twin:?}");
        fs::write(&reader, kept).unwrap();
        // Taken back: the others stay.
        fs::remove_file(access_path(&state, Role::Worker)).unwrap();
        let third = make("127.0.0.1:2");
        let same = |place: usize| second.0[place].1.token == third.0[place].1.token;
        assert_eq!([same(0), same(1), same(2)], [true, false, true]);
    }

    #[test]
    fn every_role_has_a_token_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let reach = Reach::Machine("127.0.0.1:1".parse().unwrap());
        let accesses = Accesses::make(folder.path(), &reach).unwrap();
        let gate = Gate::new(&accesses, Revoked::open(folder.path()).unwrap());
        for (role, access) in &accesses.0 {
            let header = format!("Bearer {}", access.token);
            assert_eq!(gate.role(Some(&header)), Some(*role));
        }
        assert_eq!(gate.role(Some(&accesses.operator().token)), None);
        assert_eq!(gate.role(None), None);
    }

    #[test]
    fn two_coordinators_draw_two_tokens() {
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert!(is_token(&one) && is_token(&two) && one != two);
    }
}
