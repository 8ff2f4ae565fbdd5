Invoke-Command -ComputerName $env:IBEXDEPLOY_HOST -ArgumentList $env:IBEXDEPLOY_MACHINE, $env:IBEXDEPLOY_DISK -ScriptBlock {
    param($machine, $file)
    $ErrorActionPreference = 'Stop'
    Add-VMHardDiskDrive -VMName $machine -ControllerType SCSI -Path $file
}
