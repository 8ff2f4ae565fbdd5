$session = New-Object -ComObject 'Microsoft.Update.Session'
$session.ClientApplicationID = 'ibexdeploy'
$found = $session.CreateUpdateSearcher().Search('IsInstalled=0 and IsHidden=0')
foreach ($update in $found.Updates) {
    $article = @($update.KBArticleIDs)[0]
    $line = @{ guid = $update.Identity.UpdateID; article = "$article"; title = $update.Title; bytes = [long]$update.MaxDownloadSize }
    [Console]::Out.WriteLine((ConvertTo-Json -Compress -InputObject $line))
}
