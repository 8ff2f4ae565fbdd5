//! What the Windows side of the tool is given to others as text.
#![cfg(test)]
#![cfg(target_os = "linux")]

mod powershell;
