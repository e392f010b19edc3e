//! The functions and structures of the library agree with the declarations in `crates/sys`,
//! which bindgen generates from the header.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_void};
use std::fs;
use std::mem::offset_of;

use mesos_overlay::ffi;
use mesos_overlay_sys as header;

use crate::project;

/// File with the declarations.
const BINDINGS: &str = "crates/sys/src/bindings.rs";

/// Marks types of the library that have the ABI of the type `C` of the header.
trait SameAs<C> {}

macro_rules! same {
    ($($rust:ty = $c:ty),* $(,)?) => {
        $(impl SameAs<$c> for $rust {})*
    };
}

same! {
    u8 = u8, u16 = u16, u32 = u32, u64 = u64, usize = usize, f64 = f64, () = (),
    c_char = c_char, c_void = c_void,
    // The library returns only values of the enumeration, so they may be enums in Rust.
    ffi::MoResult = header::mo_result,
    ffi::MoSeverity = header::mo_severity,
    ffi::MoEffectKind = header::mo_effect_kind,
    ffi::mo_node = header::mo_node,
}

impl<R: SameAs<C>, C> SameAs<*const C> for *const R {}
impl<R: SameAs<C>, C> SameAs<*mut C> for *mut R {}

/// Implements [`SameAs`] for functions and optional callbacks with these parameters.
macro_rules! same_functions {
    ($($($r:ident $c:ident),* => $($unsafe:ident)?;)*) => {$(
        impl<$($r: SameAs<$c>, $c,)* R: SameAs<C>, C> SameAs<unsafe extern "C" fn($($c),*) -> C>
            for $($unsafe)? extern "C" fn($($r),*) -> R {}
    )*};
}

same_functions! {
    => ;
    R1 C1 => ;
    R1 C1 => unsafe;
    R1 C1, R2 C2 => unsafe;
    R1 C1, R2 C2, R3 C3 => unsafe;
    R1 C1, R2 C2, R3 C3, R4 C4 => unsafe;
}

impl<R: SameAs<C>, C> SameAs<Option<C>> for Option<R> {}

/// Checks the type of a field: the closures never run.
fn field<S, T, R: SameAs<C>, C>(_: fn(&S) -> *const R, _: fn(&T) -> *const C) {}

/// Checks structures: size, alignment, offset and type of each field, and that no field is
/// missing.
macro_rules! structures {
    ($($c:ident = $rust:ident { $($c_field:ident = $field:ident),* $(,)? })*) => {
        $(impl SameAs<header::$c> for ffi::$rust {})*

        #[test]
        fn structures_agree() {
            $(
                let name = stringify!($c);
                assert_eq!(size_of::<ffi::$rust>(), size_of::<header::$c>(), "size of {name}");
                assert_eq!(align_of::<ffi::$rust>(), align_of::<header::$c>(), "alignment of {name}");
                $(
                    assert_eq!(
                        offset_of!(ffi::$rust, $field),
                        offset_of!(header::$c, $c_field),
                        "offset of {name}.{}",
                        stringify!($c_field)
                    );
                    field::<ffi::$rust, header::$c, _, _>(
                        |rust| &raw const rust.$field,
                        |c| &raw const c.$c_field,
                    );
                )*
            )*
        }

        /// Names of the checked structures with their fields.
        const STRUCTURES: &[(&str, &[&str])] =
            &[$((stringify!($c), &[$(stringify!($c_field)),*])),*];
    };
}

structures! {
    mo_bytes = MoBytes { ptr = ptr, len = len }
    mo_pair = MoPair { key = key, value = value }
    mo_options = MoOptions {
        size = size, parameters = parameters, parameter_count = parameter_count, wake = wake,
        wake_ctx = wake_ctx, now_ms = now_ms, now_ctx = now_ctx, seed = seed,
    }
    mo_endpoint = MoEndpoint { size = size, path = path, help = help, flags = flags }
    mo_metric = MoMetric { size = size, name = name, value = value }
    mo_request = MoRequest {
        size = size, id = id, method = method, path = path, query = query,
        query_count = query_count, accept = accept, body = body, host = host, origin = origin,
        sec_fetch_site = sec_fetch_site, content_type = content_type, client = client,
        if_none_match = if_none_match,
    }
    mo_none = MoNone { deadline_ms = deadline_ms }
    mo_send = MoSend { to = to, name = name, body = body }
    mo_link = MoLink { to = to, reconnect = reconnect }
    mo_respond = MoRespond {
        id = id, status = status, content_type = content_type, headers = headers,
        header_count = header_count, body = body, file = file,
    }
    mo_detect = MoDetect { master = master }
    mo_open_log = MoOpenLog {
        quorum = quorum, path = path, zk_servers = zk_servers, zk_path = zk_path,
        zk_session_timeout_ms = zk_session_timeout_ms, zk_scheme = zk_scheme,
        zk_credentials = zk_credentials, metrics_prefix = metrics_prefix,
    }
    mo_fetch = MoFetch { id = id, name = name, reopen = reopen }
    mo_store = MoStore { id = id, name = name, value = value }
    mo_effect__bindgen_ty_1 = MoEffectAs {
        none = none, send = send, link = link, respond = respond, detect = detect,
        open_log = open_log, fetch = fetch, store = store,
    }
    mo_effect = MoEffect { size = size, kind = kind, as_ = as_ }
}

/// Checks at compile time that a function of the library has the signature of the header.
fn function<R: SameAs<C>, C>(_: R, _: C) {}

macro_rules! functions {
    ($($name:ident: ($($underscore:tt),*) $($unsafe:ident)?;)*) => {
        #[test]
        fn functions_agree() {
            $(function(
                ffi::$name as $($unsafe)? extern "C" fn($($underscore),*) -> _,
                header::$name as unsafe extern "C" fn($($underscore),*) -> _,
            );)*
        }

        /// Names of the checked functions.
        const FUNCTIONS: &[&str] = &[$(stringify!($name)),*];
    };
}

functions! {
    mo_abi_version: ();
    mo_result_text: (_);
    mo_set_logger: (_, _) unsafe;
    mo_master_new: (_, _) unsafe;
    mo_agent_new: (_, _) unsafe;
    mo_node_free: (_) unsafe;
    mo_node_endpoint: (_, _, _) unsafe;
    mo_node_metric: (_, _, _) unsafe;
    mo_node_start: (_, _) unsafe;
    mo_node_message: (_, _, _, _) unsafe;
    mo_node_request: (_, _) unsafe;
    mo_node_exited: (_, _) unsafe;
    mo_node_leader: (_, _) unsafe;
    mo_node_detect_failed: (_, _) unsafe;
    mo_node_fetched: (_, _, _, _) unsafe;
    mo_node_stored: (_, _, _, _) unsafe;
    mo_node_tick: (_) unsafe;
    mo_node_poll: (_, _) unsafe;
}

#[test]
fn constants_agree() {
    assert_eq!(ffi::ABI_VERSION, header::MO_ABI_VERSION);
    let flags = [
        ffi::ENDPOINT_WRITES,
        ffi::ENDPOINT_READS,
        ffi::ENDPOINT_TREE,
    ];
    let expected = [
        header::MO_ENDPOINT_WRITES,
        header::MO_ENDPOINT_READS,
        header::MO_ENDPOINT_TREE,
    ];
    assert_eq!(flags, expected.map(u64::from));
    let outcomes = [
        ffi::outcome::DONE,
        ffi::outcome::SUPERSEDED,
        ffi::outcome::FAILED,
    ];
    let expected = [header::MO_DONE, header::MO_SUPERSEDED, header::MO_FAILED];
    assert_eq!(outcomes, expected);
}

#[test]
fn results_agree() {
    use ffi::MoResult::{Busy, Config, End, Invalid, Null, Ok, Panic, State};
    let results = [Ok, Panic, Null, Invalid, Config, State, Busy, End];
    let expected = [
        header::MO_OK,
        header::MO_PANIC,
        header::MO_NULL,
        header::MO_INVALID,
        header::MO_CONFIG,
        header::MO_STATE,
        header::MO_BUSY,
        header::MO_END,
    ];
    assert_eq!(results.map(|result| result as u32), expected);
}

#[test]
fn kinds_and_severities_agree() {
    use ffi::MoEffectKind as Kind;
    let kinds = [
        Kind::None,
        Kind::Send,
        Kind::Link,
        Kind::Respond,
        Kind::Detect,
        Kind::OpenLog,
        Kind::Fetch,
        Kind::Store,
    ];
    let expected = [
        header::MO_EFFECT_NONE,
        header::MO_EFFECT_SEND,
        header::MO_EFFECT_LINK,
        header::MO_EFFECT_RESPOND,
        header::MO_EFFECT_DETECT,
        header::MO_EFFECT_OPEN_LOG,
        header::MO_EFFECT_FETCH,
        header::MO_EFFECT_STORE,
    ];
    assert_eq!(kinds.map(|kind| kind as u32), expected);
    let severities = [
        ffi::MoSeverity::Info,
        ffi::MoSeverity::Warning,
        ffi::MoSeverity::Error,
    ];
    let expected = [header::MO_INFO, header::MO_WARNING, header::MO_ERROR];
    assert_eq!(severities.map(|severity| severity as u32), expected);
}

/// Checks that the lists above have every function, structure and field of the declarations.
#[test]
fn nothing_is_left_out() {
    let text = fs::read_to_string(project(BINDINGS)).unwrap();
    let name = |line: &str, start: &str| {
        let rest = line.trim_start().strip_prefix(start)?;
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        Some(rest[..end.unwrap_or(rest.len())].to_owned())
    };
    let declared: BTreeSet<_> = text
        .lines()
        .filter_map(|line| name(line, "pub fn "))
        .collect();
    assert_eq!(
        declared,
        FUNCTIONS.iter().map(ToString::to_string).collect()
    );

    let mut structure = String::new();
    let mut declared = BTreeSet::new();
    for line in text.lines() {
        let start = name(line, "pub struct ").or_else(|| name(line, "pub union "));
        if let Some(start) = start {
            structure = start;
        } else if let Some(field) =
            name(line, "pub ").filter(|field| line.contains(&format!("{field}:")))
        {
            declared.insert((structure.clone(), field));
        }
    }
    let checked = STRUCTURES.iter().flat_map(|(name, fields)| {
        fields
            .iter()
            .map(|field| (name.to_string(), field.to_string()))
    });
    assert_eq!(declared, checked.collect());
}
