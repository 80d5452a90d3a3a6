//! Why a call of a bucket failed.

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// There is no connection: nothing was sent.
    Connect,
    /// The connection broke, or what answers does not speak the protocol. A document may have been stored.
    Protocol,
    /// The server does not want it: its status, or no credentials.
    Refused,
    /// The server has no room.
    Full,
    /// The server is there, and has no such bucket.
    NoBucket,
}

/// A failure. The text names it, and no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind.
    pub cause: Cause,
    /// One sentence for a person. What a server says is in it, at any length.
    pub message: String,
}

impl Cause {
    /// Of a status that is no success.
    pub fn of_status(status: http::StatusCode) -> Self {
        match status.as_u16() {
            413 | 507 => Self::Full,
            _ => Self::Refused,
        }
    }
}

impl Fault {
    /// Of an error in words. A server of S3 answers in XML: its code and its message are put in the place of that.
    pub(crate) fn of(cause: Cause, text: &str) -> Self {
        let answer = text.find("<Error>").map(|at| (at, &text[at..]));
        let Some((code, (at, xml))) =
            answer.and_then(|answer| Some((element(answer.1, "Code")?, answer)))
        else {
            return Self { cause, message: text.to_owned() };
        };
        let before = text[..at].rfind("<?xml").map_or(&text[..at], |begin| &text[..begin]);
        let after = xml.split_once("</Error>").map_or("", |(_, after)| after);
        let why = element(xml, "Message").filter(|why| !why.is_empty());
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        let (before, after) = (before.trim_end(), after.trim_end());
        let cause = if code == "NoSuchBucket" { Cause::NoBucket } else { cause };
        Self { cause, message: format!("{before} {code}{why}{after}") }
    }
}

/// What is between the tags of the first element with this name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_server_says_in_xml_code_and_message_are_kept() {
        let status = "Server returned non-2xx status code: 404 Not Found:";
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchBucket</Code><Message>The specified \
                   bucket does not exist</Message><BucketName>towns</BucketName><RequestId>17</RequestId></Error>";
        let fault = Fault::of(Cause::Refused, &format!("{status} {xml}"));
        let message = format!("{status} NoSuchBucket (The specified bucket does not exist)");
        assert_eq!(fault, Fault { cause: Cause::NoBucket, message });
        // Not all servers begin with a declaration, or have a message.
        let fault = Fault::of(Cause::Refused, "403: <Error><Code>AccessDenied</Code></Error>");
        assert_eq!(fault, Fault { cause: Cause::Refused, message: "403: AccessDenied".into() });
        for text in ["503: <Error>busy", "no answer", "404: <html>NoSuchBucket</html>"] {
            assert_eq!(Fault::of(Cause::Protocol, text).message, text);
            assert_eq!(Fault::of(Cause::Protocol, text).cause, Cause::Protocol);
        }
    }
}
