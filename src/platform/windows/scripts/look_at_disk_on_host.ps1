$found = Invoke-Command -ComputerName $env:IBEXDEPLOY_HOST -ArgumentList $env:IBEXDEPLOY_MACHINE, $env:IBEXDEPLOY_DISK -ScriptBlock {
    param($machine, $file)
    $ErrorActionPreference = 'Stop'
    $drives = @(Get-VMHardDiskDrive -VMName $machine | Where-Object { $_.Path -eq $file })
    @{ exists = (Test-Path -LiteralPath $file -PathType Leaf); attached = ($drives.Count -gt 0) }
}
$answer = @{ exists = [bool]$found.exists; attached = [bool]$found.attached; at = @() }
[Console]::Out.WriteLine((ConvertTo-Json -Compress -InputObject $answer))
