//! Commands of the operator that are asked something: JSON on standard input, exit 0 is yes.
//!
//! The command is an argument vector and never a shell line; nothing that a stranger sent becomes an argument (S-37).

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a command may take.
const SPAN: Duration = Duration::from_secs(15);

/// Longest answer that is kept, in characters.
const ANSWER_CHARS_MAX: usize = 128;

/// Asks a command. Gives the first line of its standard output, if there is one.
///
/// # Errors
///
/// Why the answer is no: the first line of standard error, the exit code, or what kept the command from running.
pub async fn ask(command: &[String], question: &Value) -> Result<Option<String>, String> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run {program:?}: {error}"))?;
    let mut input = child.stdin.take().expect("standard input is a pipe");
    let question = format!("{question}\n");
    let talk = async {
        // A command that does not read its input may still answer.
        let _ = input.write_all(question.as_bytes()).await;
        drop(input);
        child.wait_with_output().await
    };
    let output = match timeout(SPAN, talk).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("{program:?} took longer than {} s", SPAN.as_secs())),
    };
    if output.status.success() {
        return Ok(first_line(&output.stdout));
    }
    Err(first_line(&output.stderr).unwrap_or_else(|| format!("{program:?}: {}", output.status)))
}

fn first_line(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().next()?.trim();
    let line: String = line.chars().filter(|char| !char.is_control()).collect();
    (!line.is_empty()).then(|| line.chars().take(ANSWER_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn command(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_command_reads_json_and_says_yes_or_no() {
        let yes = command(&["sh", "-c", "read line; echo \"tx $line\""]);
        let answer = ask(&yes, &json!({ "amount": "0.60" })).await;
        assert_eq!(answer, Ok(Some("tx {\"amount\":\"0.60\"}".to_owned())));
        let no = command(&["sh", "-c", "echo no funds >&2; exit 3"]);
        assert_eq!(ask(&no, &json!({})).await, Err("no funds".to_owned()));
        assert_eq!(ask(&command(&["true"]), &json!({})).await, Ok(None));
        let missing = ask(&command(&["/no/such/program"]), &json!({})).await;
        assert!(missing.is_err_and(|why| why.starts_with("cannot run")));
    }

    #[tokio::test]
    async fn s_37_arguments_stay_as_they_are() {
        let odd = "a b;$(id)`id`'\"";
        let echo = command(&["printf", "%s", odd]);
        assert_eq!(ask(&echo, &json!({})).await, Ok(Some(odd.to_owned())));
    }
}
