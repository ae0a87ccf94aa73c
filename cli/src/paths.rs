//! Where things lie: `TIMEROSE_PATH`, and the API addresses of running nodes.

use std::path::{Path, PathBuf};

use crate::error::CliError;

/// The folder of this user's node: as given, else `$XDG_DATA_HOME/timerose`, else below the home folder.
pub fn home(given: Option<PathBuf>) -> Result<PathBuf, CliError> {
    if let Some(path) = given {
        return Ok(path);
    }
    let var = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = var("XDG_DATA_HOME").or_else(|| var("HOME").map(|home| home.join(".local/share")));
    let data = data.ok_or_else(|| CliError::usage("there is no home folder", "set TIMEROSE_PATH"))?;
    Ok(data.join("timerose"))
}

/// The file that holds the API addresses of running nodes, one a line.
pub fn api_file(home: &Path) -> PathBuf {
    home.join("api")
}

/// The API addresses that stand in a folder.
pub fn api_addrs(home: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(api_file(home)).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
}

/// Writes the API addresses so that no reader sees half of them.
pub fn write_api_addrs(home: &Path, addrs: &[String]) -> Result<(), CliError> {
    let file = api_file(home);
    let fresh = home.join("api.new");
    let text: String = addrs.iter().map(|addr| format!("{addr}\n")).collect();
    std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &file)).map_err(|e| CliError::io(file.display(), e))
}
