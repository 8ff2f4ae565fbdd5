$file = $env:IBEXDEPLOY_DISK
$at = $env:IBEXDEPLOY_DISK_AT
[void](Mount-DiskImage -ImagePath $file -NoDriveLetter:([bool]$at))
if ($at) {
    $number = (Get-DiskImage -ImagePath $file).Number
    $volumes = Get-Partition -DiskNumber $number | Where-Object { $_.Type -notin 'Reserved', 'System' }
    $largest = $volumes | Sort-Object -Property Size -Descending | Select-Object -First 1
    if (-not $largest) { throw "there is no volume on $file" }
    if ($largest.AccessPaths -notcontains "$at\") { $largest | Add-PartitionAccessPath -AccessPath $at }
}
