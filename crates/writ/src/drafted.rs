//! One operation of a service file that is made from somebody else's description.

use std::collections::BTreeMap;

use crate::openapi::{put, quoted};

/// One `[[operation]]`. What is empty or absent is not written.
#[derive(Debug, Default)]
pub(crate) struct Operation {
    /// What it is, in one line.
    pub(crate) summary: String,
    /// Its name without the service's.
    pub(crate) name: String,
    /// Its effect.
    pub(crate) effect: &'static str,
    /// Its method, of what is told apart by methods.
    pub(crate) method: Option<String>,
    /// Its path template.
    pub(crate) path: String,
    /// What it is of an MCP server.
    pub(crate) mcp: Option<String>,
    /// The digest of the tool.
    pub(crate) digest: Option<String>,
    /// Its arguments by name, each as a service file says it.
    pub(crate) arguments: BTreeMap<String, String>,
}

impl Operation {
    pub(crate) fn write(&self, text: &mut String) {
        if !self.summary.is_empty() {
            put(text, &format!("# {}", self.summary));
        }
        put(text, "[[operation]]");
        put(text, &format!("name = {}", quoted(&self.name)));
        put(text, &format!("effect = {}", quoted(self.effect)));
        if let Some(method) = &self.method {
            put(text, &format!("methods = [{}]", quoted(method)));
        }
        put(text, &format!("path = {}", quoted(&self.path)));
        for (key, value) in [("mcp", &self.mcp), ("digest", &self.digest)] {
            if let Some(value) = value {
                put(text, &format!("{key} = {}", quoted(value)));
            }
        }
        if !self.arguments.is_empty() {
            put(text, "[operation.arguments]");
            for (name, from) in &self.arguments {
                put(text, &format!("{name} = {}", quoted(from)));
            }
        }
    }
}
