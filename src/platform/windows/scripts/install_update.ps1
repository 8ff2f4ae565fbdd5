$wanted = $env:IBEXDEPLOY_UPDATE
$session = New-Object -ComObject 'Microsoft.Update.Session'
$session.ClientApplicationID = 'ibexdeploy'
$found = $session.CreateUpdateSearcher().Search('IsInstalled=0 and IsHidden=0')
$chosen = New-Object -ComObject 'Microsoft.Update.UpdateColl'
foreach ($update in $found.Updates) {
    $articles = @($update.KBArticleIDs | ForEach-Object { "KB$_" })
    if ($update.Identity.UpdateID -eq $wanted -or $articles -contains $wanted) {
        if (-not $update.EulaAccepted) { $update.AcceptEula() }
        [void]$chosen.Add($update)
    }
}
$answer = @{ chosen = $chosen.Count; result = 0; code = 0; restart = $false }
if ($chosen.Count -gt 0) {
    $downloader = $session.CreateUpdateDownloader()
    $downloader.Updates = $chosen
    $downloaded = $downloader.Download()
    $installer = $session.CreateUpdateInstaller()
    $installer.Updates = $chosen
    $done = $downloaded
    if ($downloaded.ResultCode -eq 2) { $done = $installer.Install(); $answer.restart = [bool]$done.RebootRequired }
    $answer.result = [int]$done.ResultCode
    $answer.code = [int]$done.HResult
}
[Console]::Out.WriteLine((ConvertTo-Json -Compress -InputObject $answer))
