$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'
$bin = 'C:\ProgramData\ibexdeploy\bin'
$file = "$bin\@NAME@"
try {
  if (-not (Test-Path $bin)) { New-Item -ItemType Directory -Force $bin | Out-Null }
  foreach ($old in '@EARLIER@'.Split(' ', [StringSplitOptions]::RemoveEmptyEntries)) {
    Remove-Item -Force -ErrorAction SilentlyContinue "$bin\$old"
  }
  $from = [Console]::OpenStandardInput()
  $to = [IO.File]::Open($file, 'CreateNew', 'Write', 'None')
  try { $from.CopyTo($to, 1048576); $to.Flush($true) } finally { $to.Close() }
  $reader = [IO.File]::OpenRead($file)
  try { $hash = [Security.Cryptography.SHA256]::Create().ComputeHash($reader) } finally { $reader.Close() }
  $hash = [BitConverter]::ToString($hash).Replace('-', '')
  if ($hash -ne '@SHA256@') { throw 'what arrived is not what was sent' }
  & $file agent install --build '@BUILD@'
  $code = $LASTEXITCODE
} catch {
  [Console]::Error.WriteLine('bring: ' + $_.Exception.Message)
  $code = 1
}
Remove-Item -Force -ErrorAction SilentlyContinue $file
exit $code
