//! The environment variables of the official Python client, read as it reads them: `constants.py` and `utils/_auth.py` of its
//! version 2.4. Only a variable that is set to nothing counts as not set here, where the client takes some of them for `""`.

use super::{Hub, Network, OFFICIAL_ENDPOINT, clean_token};
use deepseek_ocr_core::{Error, Result};
use std::{ffi::OsString, fs, io, path::PathBuf, time::Duration};

/// Where the variables are looked up, and the user's home folder.
pub(super) struct Environment<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) user: Option<PathBuf>,
}

impl Environment<'_> {
    pub(super) fn hub(&self) -> Result<Hub> {
        let home = match (self.folder("HF_HOME")?, self.folder("XDG_CACHE_HOME")?) {
            (Some(home), _) => Some(home),
            (None, Some(caches)) => Some(caches.join("huggingface")),
            (None, None) => self.user.as_ref().map(|user| user.join(".cache").join("huggingface")),
        };
        let named = self.folder("HF_HUB_CACHE")?.or(self.folder("HUGGINGFACE_HUB_CACHE")?);
        let cache = named.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or_else(|| {
            Error::invalid_request("HF_HOME", "not set, and there is no home folder", "a folder for downloads")
        })?;
        let endpoint = self.text("HF_ENDPOINT")?.unwrap_or_else(|| OFFICIAL_ENDPOINT.into());
        let mut hub = Hub::new(cache).with_endpoint(endpoint);
        hub.token = self.token(home)?;
        hub.limits.answer = self.seconds("HF_HUB_ETAG_TIMEOUT")?.unwrap_or(hub.limits.answer);
        hub.limits.stall = self.seconds("HF_HUB_DOWNLOAD_TIMEOUT")?.unwrap_or(hub.limits.stall);
        if ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find_map(|name| self.set(name)).is_some_and(is_true) {
            hub.network = Network::Forbidden;
        }
        Ok(hub)
    }

    /// The token of the environment, or of a login.
    fn token(&self, home: Option<PathBuf>) -> Result<Option<String>> {
        if self.set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(is_true) {
            return Ok(None);
        }
        let token = self.text("HF_TOKEN")?.or(self.text("HUGGING_FACE_HUB_TOKEN")?);
        if let Some(token) = token.and_then(|token| clean_token(&token)) {
            return Ok(Some(token));
        }
        let Some(path) = self.folder("HF_TOKEN_PATH")?.or_else(|| Some(home?.join("token"))) else { return Ok(None) };
        match fs::read_to_string(&path) {
            Ok(token) => Ok(clean_token(&token)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the login's token cannot be read, going on without");
                Ok(None)
            }
        }
    }

    fn set(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &'static str) -> Result<Option<String>> {
        let not_text = |value: OsString| Error::invalid_request(name, format!("{value:?}"), "text in UTF-8");
        self.set(name).map(|value| value.into_string().map_err(not_text)).transpose()
    }

    fn seconds(&self, name: &'static str) -> Result<Option<Duration>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let seconds: u64 = text.trim().parse().map_err(|_| Error::invalid_request(name, &text, "whole seconds"))?;
        Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
    }

    /// A path in which `~`, `$NAME` and `${NAME}` are what they stand for.
    fn folder(&self, name: &'static str) -> Result<Option<PathBuf>> {
        let Some(value) = self.set(name) else { return Ok(None) };
        // What is no text has nothing in it that we could read.
        let Some(text) = value.to_str() else { return Ok(Some(value.into())) };
        let Some(rest) = text.strip_prefix('~') else { return Ok(Some(self.expand(text).into())) };
        if !(rest.is_empty() || rest.starts_with(std::path::is_separator)) {
            let expected = "a folder, where `~` is your own home folder alone";
            return Err(Error::invalid_request(name, format!("{text:?}"), expected));
        }
        let no_home = || Error::invalid_request(name, format!("{text:?}, and there is no home folder"), "a folder");
        let home = self.user.clone().ok_or_else(no_home)?;
        let rest = rest.trim_start_matches(std::path::is_separator);
        Ok(Some(if rest.is_empty() { home } else { home.join(self.expand(rest)) }))
    }

    /// Variables that are not set stay as they are written, as in a Python client.
    fn expand(&self, text: &str) -> OsString {
        let (mut out, mut rest) = (OsString::new(), text);
        while let Some(at) = rest.find('$') {
            let behind = &rest[at + 1..];
            let word = behind.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
            let (name, length) = match behind.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                Some((name, _)) => (name, name.len() + 2),
                None => (&behind[..word], word),
            };
            let value = (!name.is_empty()).then(|| (self.variable)(name)).flatten();
            out.push(&rest[..at]);
            out.push(value.unwrap_or_else(|| rest[at..=at + length].into()));
            rest = &behind[length..];
        }
        out.push(rest);
        out
    }
}

fn is_true(value: OsString) -> bool {
    let is = |yes: &str| value.eq_ignore_ascii_case(yes);
    ["1", "on", "yes", "true"].into_iter().any(is)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::collections::HashMap;

    fn try_hub(variables: &[(&str, &str)], user: Option<&str>) -> Result<Hub> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let variable = |name: &str| variables.get(name).map(OsString::from);
        Environment { variable: &variable, user: user.map(PathBuf::from) }.hub()
    }

    fn hub(variables: &[(&str, &str)]) -> Hub {
        try_hub(variables, Some("/nowhere")).unwrap()
    }

    #[test]
    fn without_variables_it_is_the_official_hub_and_cache() {
        let hub = hub(&[("HF_TOKEN", " "), ("HF_ENDPOINT", ""), ("HF_HUB_OFFLINE", "0"), ("HF_HOME", "")]);
        assert_eq!(hub.endpoint, "https://huggingface.co");
        assert_eq!(hub.cache, PathBuf::from("/nowhere/.cache/huggingface/hub"));
        assert_eq!((hub.token, hub.network), (None, Network::Allowed));
    }

    #[test]
    fn the_cache_is_where_the_official_client_has_it() {
        let (home, old, new) = (("HF_HOME", "/data"), ("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new"));
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        for (variables, expected) in [
            (vec![home], "/data/hub"),
            (vec![xdg], "/xdg/huggingface/hub"),
            (vec![xdg, home], "/data/hub"),
            (vec![xdg, home, old], "/old"),
            (vec![xdg, home, old, new], "/new"),
            (vec![("XDG_CACHE_HOME", "~/c")], "/nowhere/c/huggingface/hub"),
            (vec![("HF_HOME", "~")], "/nowhere/hub"),
            (vec![("HF_HOME", "~/models")], "/nowhere/models/hub"),
            (vec![("HF_HOME", "$DISK/hf"), ("DISK", "/disk")], "/disk/hf/hub"),
            (vec![("HF_HUB_CACHE", "${DISK}s/$USER_1/x"), ("DISK", "/disk"), ("USER_1", "me")], "/disks/me/x"),
            (vec![("HUGGINGFACE_HUB_CACHE", "~/$A"), ("A", "b")], "/nowhere/b"),
            (vec![("HF_HUB_CACHE", "/a$NONE/${NONE}/$/${/~")], "/a$NONE/${NONE}/$/${/~"),
            (vec![("HF_HUB_CACHE", "$A"), ("A", "/$B/~"), ("B", "c")], "/$B/~"),
            (vec![("HF_HUB_CACHE", "$A$A"), ("A", "/é")], "/é/é"),
        ] {
            assert_eq!(hub(&variables).cache, PathBuf::from(expected), "{variables:?}");
        }
    }

    #[test]
    fn the_token_is_the_one_of_the_official_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, " hf_login\r\n").unwrap();
        let home = ("HF_HOME", folder.path().to_str().unwrap());
        let (new, old) = (("HF_TOKEN", "hf_new\n"), ("HUGGING_FACE_HUB_TOKEN", " hf_old "));
        let none = ("HF_TOKEN_PATH", "/nowhere/token");
        for (variables, expected) in [
            (vec![home], Some("hf_login")),
            (vec![("HF_TOKEN_PATH", path.to_str().unwrap())], Some("hf_login")),
            (vec![("HF_TOKEN_PATH", "$HF_HOME/token"), home], Some("hf_login")),
            (vec![home, none], None),
            (vec![home, new, old], Some("hf_new")),
            (vec![home, old], Some("hf_old")),
            (vec![home, ("HF_TOKEN", ""), old], Some("hf_old")),
            (vec![home, ("HF_TOKEN", " \n"), old], Some("hf_login")),
            (vec![none, ("HF_TOKEN", " \n")], None),
            (vec![home, new, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "true")], None),
            (vec![home, new, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0")], Some("hf_new")),
            // A folder in its place is no reason to fail.
            (vec![("HF_TOKEN_PATH", folder.path().to_str().unwrap())], None),
        ] {
            assert_eq!(hub(&variables).token.as_deref(), expected, "{variables:?}");
        }
    }

    #[test]
    fn offline_is_what_the_official_client_takes_for_true() {
        for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
            for yes in ["1", "ON", "yes", "True"] {
                assert_eq!(hub(&[(name, yes)]).network, Network::Forbidden, "{name} {yes}");
            }
            for no in ["", "0", "off", "no", "False", "2", "y", " 1"] {
                assert_eq!(hub(&[(name, no)]).network, Network::Allowed, "{name} {no}");
            }
        }
        let both = |first, second| hub(&[("HF_HUB_OFFLINE", first), ("TRANSFORMERS_OFFLINE", second)]).network;
        assert_eq!(both("0", "1"), Network::Allowed);
        assert_eq!(both("", "1"), Network::Forbidden);
    }

    #[test]
    fn the_endpoint_has_no_slash_at_its_end() {
        assert_eq!(hub(&[("HF_ENDPOINT", "http://mirror:80//")]).endpoint, "http://mirror:80");
    }

    #[test]
    fn time_limits_are_whole_seconds() {
        let limits = hub(&[("HF_HUB_ETAG_TIMEOUT", "7"), ("HF_HUB_DOWNLOAD_TIMEOUT", " 300 ")]).limits;
        assert_eq!((limits.answer.as_secs(), limits.stall.as_secs()), (7, 300));
        let limits = hub(&[("HF_HUB_ETAG_TIMEOUT", "0")]).limits;
        assert_eq!((limits.answer.as_secs(), limits.stall.as_secs()), (30, 60));
        for wrong in ["soon", "-1", "1.5"] {
            let error = try_hub(&[("HF_HUB_DOWNLOAD_TIMEOUT", wrong)], Some("/nowhere")).unwrap_err();
            assert!(error.to_string().contains("HF_HUB_DOWNLOAD_TIMEOUT"), "{error}");
        }
    }

    #[test]
    fn no_home_is_an_error_only_when_it_is_needed() {
        assert_eq!(try_hub(&[("HF_HUB_CACHE", "/cache")], None).unwrap().cache, PathBuf::from("/cache"));
        assert!(try_hub(&[], None).unwrap_err().to_string().contains("HF_HOME"));
        assert!(try_hub(&[("HF_HUB_CACHE", "~/x")], None).unwrap_err().to_string().contains("HF_HUB_CACHE"));
    }

    #[test]
    fn the_home_of_somebody_else_is_refused_by_name() {
        let error = try_hub(&[("HF_HOME", "~somebody/hf")], Some("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("HF_HOME") && error.contains("~somebody/hf"), "{error}");
    }
}
