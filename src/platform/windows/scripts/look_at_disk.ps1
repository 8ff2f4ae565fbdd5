$file = $env:IBEXDEPLOY_DISK
$answer = @{ exists = (Test-Path -LiteralPath $file -PathType Leaf); attached = $false; at = @() }
if ($answer.exists) {
    $image = Get-DiskImage -ImagePath $file
    $answer.attached = [bool]$image.Attached
    if ($image.Attached) {
        $partitions = @(Get-Partition -DiskNumber $image.Number -ErrorAction SilentlyContinue)
        $answer.at = @($partitions | ForEach-Object { $_.AccessPaths } | Where-Object { $_ -and $_ -notlike '\\?\*' })
    }
}
[Console]::Out.WriteLine((ConvertTo-Json -Compress -InputObject $answer))
