Invoke-Command -ComputerName $env:IBEXDEPLOY_HOST -ArgumentList $env:IBEXDEPLOY_MACHINE, $env:IBEXDEPLOY_DISK -ScriptBlock {
    param($machine, $file)
    $ErrorActionPreference = 'Stop'
    Get-VMHardDiskDrive -VMName $machine | Where-Object { $_.Path -eq $file } | Remove-VMHardDiskDrive
}
