$file = $env:IBEXDEPLOY_DISK
$number = (Get-DiskImage -ImagePath $file).Number
foreach ($partition in @(Get-Partition -DiskNumber $number -ErrorAction SilentlyContinue)) {
    foreach ($path in @($partition.AccessPaths | Where-Object { $_ -and $_ -match '^[A-Za-z]:\\.' })) {
        $partition | Remove-PartitionAccessPath -AccessPath $path
    }
}
[void](Dismount-DiskImage -ImagePath $file)
